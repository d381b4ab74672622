// SPDX-License-Identifier: Apache-2.0
// The client of the wasm host's zygote: starts `amphora-wasm zygote` on first use, asks it for a clone
// per container, starts another one when it has died. One engine each. The zygote's own half is
// wasm/host/zygote.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/setup/exec_plan.h"
#include "wasm/programs.h"

namespace amphora::wasm {

/// Our own program, opened once, on a read-only mount, so that nothing that runs from it can write it.
class HostProgram {
 public:
  /// Without `programs` they are looked for when first needed: native containers never ask.
  /// `which` of them it is.
  HostProgram(std::optional<Programs> programs, Children& children,
              std::string Programs::* which = &Programs::host)
      : programs_(std::move(programs)), children_(children), which_(which) {}
  /// Starts it with `args` behind the program's name; `fds` become 3, 4, ... and `error_fd` its
  /// standard error (-1: /dev/null). In a session of its own, without environment. Called with
  /// Children's mutex held; registered there, and removed by who waits for it.
  Result<Process> start_locked(std::span<const std::string> args, std::span<const int> fds,
                               int error_fd);
  const Programs& programs();
  Children& children() noexcept { return children_; }

 private:
  std::mutex find_mutex_;  ///< guards programs_ until it is there
  std::optional<Programs> programs_;
  Children& children_;
  std::string Programs::* const which_;
  UniqueFd exe_;  ///< guarded by Children's mutex
};

/// What a clone is made from; SpawnRequest without the plan's class.
struct CloneRequest {
  std::string_view blob;
  std::span<const int> fds;
  uint64_t clone_flags = 0;
  int cgroup_fd = -1;
  int pid_namespace_fd = -1;
  int status_fd = -1;
};

/// Thread-safe. Everything happens under the one mutex of Children, as making children and registering
/// them must be one act there; a lock of its own beside it could only be taken in the wrong order.
class Zygote : public setup::Spawner {
 public:
  Zygote(HostProgram& program, std::string engine)
      : program_(program), engine_(std::move(engine)) {}
  ~Zygote() override;
  Zygote(const Zygote&) = delete;
  Zygote& operator=(const Zygote&) = delete;

  /// The clone is a child of this process, as Spawner promises (mutex held, the caller registers it).
  Result<Process> spawn(const setup::SpawnRequest& request) override;
  Result<Process> clone_locked(const CloneRequest& request);
  /// Starts it now, if it does not run, and waits until its engine has started.
  Result<void> warm_up();
  /// Starts it without waiting: a compile or a hash may go on beside it. Errors are clone's to tell.
  void begin();
  /// The zygote's pid, 0 when none runs; for tests and figures.
  pid_t pid();

 private:
  struct Running {
    Process process;
    UniqueFd socket;
    bool greeted = false;  ///< its Hello has come
  };
  Result<void> ensure_locked();
  Result<void> start_locked();
  Result<void> greet_locked();
  Result<ExitStatus> bury_locked();
  bool is_dead() const;
  Result<Process> ask(const CloneRequest& request);

  HostProgram& program_;
  const std::string engine_;
  std::optional<Running> running_;
};

}  // namespace amphora::wasm
