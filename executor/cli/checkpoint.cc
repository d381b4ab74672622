// SPDX-License-Identifier: Apache-2.0
// amphora checkpoint: a running container into a directory of images; it is removed then, unless it is to
// run on.
#include "executor/runtime/checkpoint.h"

#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/criu_line.h"
#include "executor/cli/options.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct CheckpointLine : CriuLine {
  std::string parent_path, status_fd, page_server;
  bool leave_running = false, tcp_skip_in_flight = false, link_remap = false, pre_dump = false;
};

using namespace criu_words;

constexpr Option kOptions[] = {
    option<&CheckpointLine::image_path>("image-path", 0, kImagePath),
    option<&CheckpointLine::work_path>("work-path", 0, kWorkPath),
    option<&CheckpointLine::parent_path>("parent-path", 0,
                                         "path to earlier pre-dump images, from the image path"),
    option<&CheckpointLine::leave_running>("leave-running", 0, "leave the container running"),
    option<&CheckpointLine::tcp_established>("tcp-established", 0, kTcp),
    option<&CheckpointLine::tcp_skip_in_flight>("tcp-skip-in-flight", 0,
                                                "skip tcp connections that are being made"),
    option<&CheckpointLine::link_remap>("link-remap", 0,
                                        "allow links to removed files to be restored"),
    option<&CheckpointLine::ext_unix_sk>("ext-unix-sk", 0, kUnix),
    option<&CheckpointLine::shell_job>("shell-job", 0, kShell),
    option<&CheckpointLine::lazy_pages>("lazy-pages", 0, kLazy),
    option<&CheckpointLine::status_fd>("status-fd", 0,
                                       "criu writes \\0 to this descriptor when ready"),
    option<&CheckpointLine::page_server>("page-server", 0, "ADDRESS:PORT of the page server"),
    option<&CheckpointLine::file_locks>("file-locks", 0, kLocks),
    option<&CheckpointLine::pre_dump>("pre-dump", 0, "dump memory only, the container runs on"),
    option<&CheckpointLine::cgroups_mode>("manage-cgroups-mode", 0, kCgroups),
    option<&CheckpointLine::empty_ns>("empty-ns", 0, kEmptyNs),
    option<&CheckpointLine::auto_dedup>("auto-dedup", 0, kDedup),
};

Result<CheckpointOptions> understood(const CheckpointLine& line) {
  CheckpointOptions options;
  TRY(understand(line, options));
  options.parent_path = line.parent_path;
  if (options.parent_path.starts_with('/')) {
    return fail(Errc::kInvalid,
                "--parent-path must be relative to --image-path: " + options.parent_path);
  }
  if (!options.parent_path.empty()) {
    const std::string& images = options.image_path;
    struct stat st{};
    if (::stat((images + "/" + options.parent_path).c_str(), &st) != 0) {
      return fail_errno(errno, "invalid --parent-path " + options.parent_path + " in " + images);
    }
  }
  options.page_server = line.page_server;
  options.leave_running = line.leave_running;
  options.tcp_skip_in_flight = line.tcp_skip_in_flight;
  options.link_remap = line.link_remap;
  options.pre_dump = line.pre_dump;
  if (!line.status_fd.empty()) {
    const char* const end = line.status_fd.data() + line.status_fd.size();
    if (std::from_chars(line.status_fd.data(), end, options.status_fd).ptr != end) {
      return fail(Errc::kInvalid, "--status-fd " + line.status_fd + " is no descriptor");
    }
  }
  return options;
}

Result<int> checkpoint(Context& context, const CheckpointLine& line, Arguments arguments) {
  TRY_ASSIGN(const CheckpointOptions options, understood(line));
  TRY_ASSIGN(Runtime * runtime, context.runtime(CreateRoot::kNo));
  TRY(runtime->checkpoint(arguments[0], options));
  if (options.leave_running || options.pre_dump) return 0;
  TRY_ASSIGN(const auto warnings, runtime->remove(arguments[0], Force::kYes));
  for (const std::string& warning : warnings) context.log().warning(warning);
  return 0;
}

}  // namespace

constinit const Command kCheckpointCommand = {
    .name = "checkpoint",
    .summary = "checkpoint a running container",
    .usage = "<container-id>",
    .description =
        "Writes the container's processes to the image path with CRIU, from which\n"
        "\"restore\" makes a container again, here or elsewhere, and removes the container\n"
        "unless it is left running. Native containers only.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<CheckpointLine, &checkpoint>,
};

}  // namespace amphora::cli
