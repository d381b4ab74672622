// SPDX-License-Identifier: Apache-2.0
// For tests of the wasm host without setup/: hand-made plans, the parent's end of the handshake, and
// what a guest wrote and how it ended.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "executor/base/process.h"
#include "executor/init/step.h"
#include "wasm/handover.h"
#include "wasm/zygote.h"

namespace amphora::wasm {

/// A plan under construction: steps with texts, one block in the end.
class PlanBytes {
 public:
  PlanBytes() : text_(1, '\0') {}
  init::Step& step(init::Op op);
  uint32_t text(std::string_view bytes);
  std::string blob() const;

 private:
  std::vector<init::Step> steps_;
  std::string text_;
};

struct Outcome {
  int code = -1;  ///< 128 + n for signals
  std::string out, err;
  std::string failure;  ///< text of a kFailureText, or "step N errno E"
  int failure_code = 0;
  bool ready = false;
};

/// One guest's run in clones of a zygote.
struct GuestRun {
  std::vector<std::string> args = {};
  std::vector<std::string> env = {};
  std::string module = "ok";
  std::string function = {};
  std::string cwd = "/";
  uint64_t clone_flags = 0;
  int pid_namespace_fd = -1;
  std::function<void(PlanBytes&)> before = {};  ///< steps before the first hand-over
  std::function<void(PlanBytes&)> late = {};    ///< steps between ready and the second
  std::function<void(const Process&)> while_running = {};
  size_t extra_fds = 0;
};

/// Where the tests' build put amphora-wasm and the stub engine.
Programs test_programs();
/// As setup::launch does it: under Children's mutex, registered.
Result<Process> make_clone(Zygote& zygote, Children& children, const CloneRequest& request);
Result<Outcome> run_guest_in(Zygote& zygote, Children& children, const GuestRun& run);
/// A memfd with the stub's artifact for `module`.
UniqueFd stub_artifact(const std::string& module);

}  // namespace amphora::wasm
