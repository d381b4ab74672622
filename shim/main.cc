// SPDX-License-Identifier: Apache-2.0
// containerd-shim-amphora-v1: the four ways in which containerd runs it, and the server among our own
// processes. Nothing is done here but choosing.

#include <cstdio>
#include <exception>
#include <span>

#include <google/protobuf/stubs/logging.h>

#include "shim/bootstrap.h"
#include "shim/cleanup.h"
#include "shim/flags.h"
#include "shim/info.h"
#include "shim/serve.h"

namespace {

int run(const amphora::shim::Flags& flags) {
  if (flags.version) {
    ::printf("containerd-shim-amphora-v1:\n  Version: %s\n", AMPHORA_VERSION);
    return 0;
  }
  if (flags.info) return amphora::shim::print_info();
  if (flags.action == "start") return amphora::shim::start(flags);
  if (flags.action == "delete") return amphora::shim::remove_leftovers(flags);
  if (flags.action == "serve") return amphora::shim::serve(flags);
  ::fprintf(stderr, "containerd-shim-amphora-v1: %s\n",
            flags.action.empty() ? "an action is missing: start or delete"
                                 : ("unknown action " + flags.action).c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  // It writes to stderr what it cannot decode, and containerd reads stderr as part of start's answer.
  // `start` tries two forms, so that one of them often does not decode.
  google::protobuf::SetLogHandler(nullptr);
  amphora::shim::Flags flags = amphora::shim::parse_flags(
      std::span<const char* const>(argv + 1, argc > 0 ? static_cast<size_t>(argc - 1) : 0));
  if (argc > 0 && flags.engine.empty()) flags.engine = amphora::shim::engine_of_name(argv[0]);
  try {
    return run(flags);
  } catch (const std::exception& exception) {
    ::fprintf(stderr, "containerd-shim-amphora-v1: %s\n", exception.what());
    return 1;
  }
}
