// SPDX-License-Identifier: Apache-2.0
// Parts of the runtime's verbs that more than one of them uses: bundles, home directories, status,
// the start socket, hooks with a container's state. Internal to runtime/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"

namespace amphora::runtime {

inline constexpr const char* kStartSocket = "start.sock";
inline constexpr const char* kConfigCopy = "config.json";

/// A bundle as it was found: its directory, the text of its config.json and the parsed spec.
struct Bundle {
  std::string path;  ///< absolute
  UniqueFd dir;
  std::string config;
  oci::Spec spec;
  std::string rootfs;           ///< absolute
  std::vector<UniqueFd> spent;  ///< done with, to be closed with others
};
/// `rootfs_override` replaces root.path where not empty. The spec has a process.
Result<Bundle> open_bundle(const std::string& path, const std::string& rootfs_override);

/// The root filesystem's directory, as a path (O_PATH); a symbolic link is refused by name, as by runc.
Result<UniqueFd> open_rootfs(const std::string& path);

/// The record of a container of which nothing but this is made.
oci::State first_state(const std::string& id, const Bundle& bundle, const detect::Verdict& verdict);

/// Keeps the spec's text beside the state: exec needs it, and the bundle may change or go.
Result<void> keep_config(const Entry& entry, const std::string& config,
                         std::vector<UniqueFd>& spent);

/// Status of a container from its record, its start socket and its process.
oci::Status status_of(const Entry& entry, const oci::State& state);

/// Adds HOME from the container's /etc/passwd (or "/") where process.env has none, as runc does for
/// native programs. The file is read below the root, at most 1 MiB of it (CVE-2025-24965).
void add_home(oci::Process& process, int rootfs_fd, const oci::Spec& spec);

/// Binds the start socket in the state directory; the child accepts on it.
Result<UniqueFd> listen_for_start(const Entry& entry);
/// Connects to it and waits until the program has been executed; the error is the child's own.
Result<void> release_start(const Entry& entry, const Process& init);

/// RFC 3339 in UTC with nanoseconds.
std::string now_rfc3339();

/// Writes a pid file atomically: decimal, no newline.
Result<void> write_pid_file(const std::string& path, pid_t pid);

/// Waits until the process has ended, ten seconds at most, as runc does (100 tries of 100 ms). False: it has not.
bool wait_for_end(const Process& process);

/// The directory as one of ours, made when missing (parents too, as `mkdir -p`), root's alone.
Result<UniqueFd> open_directory(const std::string& path);

}  // namespace amphora::runtime
