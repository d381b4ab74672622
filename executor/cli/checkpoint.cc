// SPDX-License-Identifier: Apache-2.0
// amphora checkpoint and restore: known words, refused with a reason.
#include "executor/cli/command.h"

namespace amphora::cli {
namespace {

/// Any line is accepted: who scripts runc's options shall read why, not which option is unknown.
Result<int> refuse(const Command& self, Context&, Arguments) {
  return fail(Errc::kUnsupported, std::string(self.name) +
                                      " is not supported by this build of amphora: it has no CRIU");
}

}  // namespace

constinit const Command kCheckpointCommand = {
    .name = "checkpoint",
    .summary = "checkpoint a running container (not supported by this build)",
    .usage = "<container-id>",
    .description = "",
    .options = {},
    .run = &refuse,
};

constinit const Command kRestoreCommand = {
    .name = "restore",
    .summary = "restore a container from a checkpoint (not supported by this build)",
    .usage = "<container-id>",
    .description = "",
    .options = {},
    .run = &refuse,
};

}  // namespace amphora::cli
