// SPDX-License-Identifier: Apache-2.0
// amphora checkpoint and restore: runc's options, so that a wrong line is told from a right one, and a
// refusal with its reason: nothing here talks to CRIU.
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "executor/cli/command.h"
#include "executor/cli/words.h"

namespace amphora::cli {
namespace {

struct CriuOptions {
  std::string image_path, work_path, parent_path, status_fd, page_server, cgroups_mode, lsm_profile,
      lsm_mount_context, console_socket, bundle, pid_file;
  std::vector<std::string> empty_ns;
  bool leave_running = false, tcp_established = false, tcp_skip_in_flight = false,
       link_remap = false, ext_unix_sk = false, shell_job = false, lazy_pages = false,
       file_locks = false, pre_dump = false, auto_dedup = false, detach = false,
       no_subreaper = false, no_pivot = false;
};

constexpr char kImagePath[] = "path to the directory of the criu image files";
constexpr char kWorkPath[] = "path to the directory of criu's logs and working files";
constexpr char kTcp[] = "allow open tcp connections";
constexpr char kUnix[] = "allow external unix sockets";
constexpr char kShell[] = "allow shell jobs";
constexpr char kLocks[] = "handle file locks, for safety";
constexpr char kCgroups[] = "cgroups mode: soft, full, strict or ignore";
constexpr char kEmptyNs[] = "namespaces whose content is left alone";
constexpr char kDedup[] = "enable auto deduplication of memory images";
constexpr char kLazy[] = "handle memory pages lazily, by userfaultfd";

constexpr Option kCheckpointOptions[] = {
    option<&CriuOptions::image_path>("image-path", 0, kImagePath),
    option<&CriuOptions::work_path>("work-path", 0, kWorkPath),
    option<&CriuOptions::parent_path>("parent-path", 0, "path to earlier pre-dump images"),
    option<&CriuOptions::leave_running>("leave-running", 0, "leave the container running"),
    option<&CriuOptions::tcp_established>("tcp-established", 0, kTcp),
    option<&CriuOptions::tcp_skip_in_flight>("tcp-skip-in-flight", 0,
                                             "skip tcp connections that are being made"),
    option<&CriuOptions::link_remap>("link-remap", 0,
                                     "allow links to removed files to be restored"),
    option<&CriuOptions::ext_unix_sk>("ext-unix-sk", 0, kUnix),
    option<&CriuOptions::shell_job>("shell-job", 0, kShell),
    option<&CriuOptions::lazy_pages>("lazy-pages", 0, kLazy),
    option<&CriuOptions::status_fd>("status-fd", 0,
                                    "criu writes \\0 to this descriptor when ready"),
    option<&CriuOptions::page_server>("page-server", 0, "ADDRESS:PORT of the page server"),
    option<&CriuOptions::file_locks>("file-locks", 0, kLocks),
    option<&CriuOptions::pre_dump>("pre-dump", 0, "dump memory only, the container runs on"),
    option<&CriuOptions::cgroups_mode>("manage-cgroups-mode", 0, kCgroups, "\"soft\""),
    option<&CriuOptions::empty_ns>("empty-ns", 0, kEmptyNs),
    option<&CriuOptions::auto_dedup>("auto-dedup", 0, kDedup),
};

constexpr Option kRestoreOptions[] = {
    option<&CriuOptions::console_socket>("console-socket", 0, words::kConsoleSocket),
    option<&CriuOptions::image_path>("image-path", 0, kImagePath),
    option<&CriuOptions::work_path>("work-path", 0, kWorkPath),
    option<&CriuOptions::tcp_established>("tcp-established", 0, kTcp),
    option<&CriuOptions::ext_unix_sk>("ext-unix-sk", 0, kUnix),
    option<&CriuOptions::shell_job>("shell-job", 0, kShell),
    option<&CriuOptions::file_locks>("file-locks", 0, kLocks),
    option<&CriuOptions::cgroups_mode>("manage-cgroups-mode", 0, kCgroups, "\"soft\""),
    option<&CriuOptions::bundle>("bundle", 'b', words::kBundle),
    option<&CriuOptions::detach>("detach", 'd', words::kDetach),
    option<&CriuOptions::pid_file>("pid-file", 0, words::kPidFile),
    option<&CriuOptions::no_subreaper>(
        "no-subreaper", 0, "disable the use of the subreaper used to reap reparented processes"),
    option<&CriuOptions::no_pivot>("no-pivot", 0, words::kNoPivot),
    option<&CriuOptions::empty_ns>("empty-ns", 0, kEmptyNs),
    option<&CriuOptions::auto_dedup>("auto-dedup", 0, kDedup),
    option<&CriuOptions::lazy_pages>("lazy-pages", 0, kLazy),
    option<&CriuOptions::lsm_profile>("lsm-profile", 0, "LSM profile to restore with"),
    option<&CriuOptions::lsm_mount_context>("lsm-mount-context", 0,
                                            "LSM mount context to restore with"),
};

Result<int> refuse(const char* verb) {
  return fail(Errc::kUnsupported, std::string(verb) +
                                      " is not supported by this version of amphora, which does "
                                      "not talk to CRIU (runc can, for native containers)");
}

/// What scripts may get wrong whatever CRIU does.
Result<void> check_parent(const CriuOptions& options) {
  const std::string& parent = options.parent_path;
  if (parent.empty()) return {};
  if (parent.starts_with('/')) {
    return fail(Errc::kInvalid, "--parent-path " + parent +
                                    " must be relative: it is looked up in the image directory");
  }
  const std::string images = options.image_path.empty() ? "checkpoint" : options.image_path;
  struct stat st{};
  if (::stat((images + "/" + parent).c_str(), &st) != 0) {
    return fail_errno(errno, "invalid --parent-path " + parent + " in " + images);
  }
  if (S_ISDIR(st.st_mode)) return {};
  return fail(Errc::kInvalid, "invalid --parent-path " + parent + ": not a directory");
}

Result<int> checkpoint(Context&, const CriuOptions& options, Arguments) {
  TRY(check_parent(options));
  return refuse("checkpoint");
}
Result<int> restore(Context&, const CriuOptions&, Arguments) { return refuse("restore"); }

}  // namespace

constinit const Command kCheckpointCommand = {
    .name = "checkpoint",
    .summary = "checkpoint a running container (not supported by this version)",
    .usage = "<container-id>",
    .description = "",
    .options = kCheckpointOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<CriuOptions, &checkpoint>,
};

constinit const Command kRestoreCommand = {
    .name = "restore",
    .summary = "restore a container from a checkpoint (not supported by this version)",
    .usage = "<container-id>",
    .description = "",
    .options = kRestoreOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<CriuOptions, &restore>,
};

}  // namespace amphora::cli
