// SPDX-License-Identifier: Apache-2.0
// Checkpoint and restore through CRIU: what both verbs are asked, and what a checkpoint's directory
// holds beside CRIU's own files. Internal to runtime/ but for the two option structs.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/criu/client.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora {

/// What both verbs tell CRIU. Paths are absolute.
struct CriuOptions {
  std::string image_path;  ///< the images; made when missing by checkpoint
  std::string work_path;   ///< logs; empty: in image_path
  bool tcp_established = false, external_unix_sockets = false, shell_job = false,
       file_locks = false, auto_dedup = false, lazy_pages = false;
  criu::CgroupsMode cgroups = criu::CgroupsMode::kIgnore;  ///< the cgroup is ours to make
  uint64_t empty_namespaces = 0;                           ///< CLONE_NEWNET or 0
};

struct CheckpointOptions : CriuOptions {
  std::string parent_path;  ///< earlier pre-dump, relative to image_path
  std::string page_server;  ///< ADDRESS:PORT
  bool leave_running = false, tcp_skip_in_flight = false, link_remap = false, pre_dump = false;
  int status_fd = -1;
};

struct RestoreOptions : CriuOptions {
  std::string lsm_profile;
};

namespace runtime {

/// Something from outside that a container shows: CRIU leaves it out by its key and is told at restore
/// what to put there. Keys are made by us from the spec, never from a path of the image
/// (CVE-2026-115520, CVE-2026-119101).
struct External {
  std::string key;     ///< "mount-3", "cgroup-memory", "null-0"
  std::string inside;  ///< the mount point, absolute, as the container sees it
  bool operator==(const External&) const = default;
};

/// Kept as amphora.record in the checkpoint's directory.
struct ImageRecord {
  std::vector<External> externals;
  std::array<std::string, 3>
      stdio;  ///< CRIU's names of what 0, 1 and 2 led to; empty: nothing outside
  bool operator==(const ImageRecord&) const = default;
};
inline constexpr const char* kImageRecord = "amphora.record";

/// kInvalid: a path that cannot be written down (a line feed, or "]:", which would end a key).
Result<std::string> to_text(const ImageRecord& record);
Result<ImageRecord> parse_image_record(std::string_view text);

/// Where the bytes of `external` come from now, by this spec and these cgroups; kInvalid when the spec has
/// no such thing, so that an image shows nothing that its new container was not given.
Result<std::string> source_of(const External& external, const oci::Spec& spec,
                              const std::string& bundle, const oci::State& state,
                              const setup::Host& host);

/// Whether the restored process has no more rights than the spec gives: capabilities, no_new_privs,
/// seccomp, user (CVE-2026-95837, CVE-2026-92574). `status` is its /proc/PID/status.
Result<void> check_rights(const oci::Spec& spec, const setup::Host& host, std::string_view status);

/// The options that both verbs have.
criu::Writer common_options(const CriuOptions& options, int image_fd, int work_fd,
                            const char* log_file, const std::string& root);

}  // namespace runtime
}  // namespace amphora
