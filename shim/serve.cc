// SPDX-License-Identifier: Apache-2.0
// The server process. See serve.h.
#include "shim/serve.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include <spdlog/logger.h>

#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "shim/bootstrap.h"
#include "shim/flags.h"
#include "shim/log.h"
#include "shim/runtime_backend.h"
#include "shim/sandbox_service.h"
#include "shim/spawn.h"
#include "shim/supervisor.h"
#include "shim/task_service.h"
#include "shim/ttrpc/server.h"

namespace amphora::shim {
namespace {

using Clock = std::chrono::steady_clock;
// Nobody came after a failed start, or everybody is gone without a Shutdown.
constexpr std::chrono::seconds kIdleGuard{60};
// A helper has found us alive; its containerd dials next.
constexpr std::chrono::seconds kReservation{5};
// Others that are connected without a container get this long to make one.
constexpr std::chrono::seconds kOthersGrace{10};
constexpr std::chrono::seconds kLookAgain{1};
constexpr std::chrono::milliseconds kInsistPause{20};
constexpr std::chrono::milliseconds kDrain{2000};
constexpr std::chrono::milliseconds kTrimDelay{300};

class Shim {
 public:
  explicit Shim(const Flags& flags)
      : flags_(flags),
        log_(make_logger(open_log_fifo(),
                         " runtime=io.containerd.amphora.v1 namespace=" + flags.name_space,
                         flags.debug)),
        workers_(loop_),
        reaper_(loop_, children_),
        backends_(flags.name_space, flags.engine, flags.address, children_),
        publisher_(loop_,
                   {flags.ttrpc_address, flags.publish_binary, flags.address, flags.name_space},
                   log_),
        supervisor_(
            {loop_, workers_, reaper_, children_, backends_, publisher_, log_, flags.name_space}),
        service_(supervisor_, log_, [this] { on_shutdown(); }),
        sandbox_({loop_, workers_, reaper_, backends_, log_}),
        sandbox_service_(sandbox_, log_,
                         {[this](std::vector<oci::Mount> mounts) {
                            supervisor_.set_pod_mounts(std::move(mounts));
                          },
                          [this] { ask_to_leave(); }}),
        server_(loop_, UniqueFd(kListenerFd),
                [this](ttrpc::Request&& request, ttrpc::Responder responder) {
                  on_request(request.method);
                  if (request.service == SandboxService::kName) {
                    return sandbox_service_.handle(std::move(request), std::move(responder));
                  }
                  service_.handle(std::move(request), std::move(responder));
                }),
        signals_(loop_, SIGTERM, SIGINT, SIGUSR1),
        idle_timer_(loop_),
        leave_timer_(loop_),
        trim_timer_(loop_) {}

  void run() {
    supervisor_.on_empty([this] {
      guard_idleness();
      consider_leaving();
    });
    server_.on_disconnect([this](bool silent) {
      drop_old_reservations();
      if (silent) reservations_.push_back(Clock::now() + kReservation);
      guard_idleness();
      consider_leaving();
    });
    wait_signal();
    guard_idleness();
    log_->debug("serving {}", flags_.socket);
    loop_.run();
  }

 private:
  void on_request(const std::string& method) {
    if (method == "Create" || method == "CreateSandbox") {
      asked_to_leave_ = false;
      if (!reservations_.empty()) reservations_.pop_front();  // here it is
    }
    // Creating leaves garbage in the heap (a parsed spec is large): given back soon after.
    if (trim_armed_ || (!method.starts_with("Create") && !method.starts_with("Start"))) return;
    trim_armed_ = true;
    trim_timer_.expires_after(kTrimDelay);
    trim_timer_.async_wait([this](boost::system::error_code) {
      trim_armed_ = false;
      ::malloc_trim(0);
    });
  }

  bool is_empty() const { return supervisor_.is_empty() && sandbox_.is_empty(); }

  void on_shutdown() {
    if (is_empty()) ask_to_leave();
  }

  /// Containers that are still there, which a sandbox does not wait for, keep us until they are gone.
  void ask_to_leave() {
    asked_to_leave_ = true;
    others_until_ = Clock::now() + kOthersGrace;
    consider_leaving();
  }

  void drop_old_reservations() {
    while (!reservations_.empty() && reservations_.front() <= Clock::now())
      reservations_.pop_front();
  }

  void consider_leaving() {
    if (!asked_to_leave_ || leaving_ || !is_empty()) return;
    // The one connection is the asker's own.
    const bool others = server_.connections() > 1 && Clock::now() < others_until_;
    drop_old_reservations();
    if (!others && reservations_.empty() && leave()) return;
    leave_timer_.expires_after(kLookAgain);
    leave_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) consider_leaving();
    });
  }

  void guard_idleness() {
    if (!is_empty() || server_.connections() != 0) return;
    idle_timer_.expires_after(kIdleGuard);
    idle_timer_.async_wait([this](boost::system::error_code error) {
      if (error || leaving_ || !is_empty() || server_.connections() != 0) return;
      log_->info("no containers and no clients: leaving");
      if (!leave()) guard_idleness();
    });
  }

  bool leave() {
    const auto close = [this] { server_.close_listener(); };
    if (!retire_listener(flags_.socket, kListenerFd, close)) return false;
    leaving_ = true;
    publisher_.drain(kDrain, [this] { loop_.stop(); });
    return true;
  }

  void insist_on_leaving() {
    if (leaving_ || leave()) return;
    leave_timer_.expires_after(kInsistPause);  // the loop accepts who is connecting
    leave_timer_.async_wait([this](boost::system::error_code) { insist_on_leaving(); });
  }

  void wait_signal() {
    signals_.async_wait([this](boost::system::error_code error, int signal) {
      if (error) return;
      if (signal == SIGUSR1) {
        for (const auto& line : supervisor_.describe()) log_->info("{}", line);
      } else if (!leaving_) {
        // Containers live on; who ends us so may want them.
        log_->info("ended by signal {}", signal);
        insist_on_leaving();
      }
      wait_signal();
    });
  }

  const Flags& flags_;
  Loop loop_{1};
  Children children_;
  std::shared_ptr<spdlog::logger> log_;
  Workers workers_;
  Reaper reaper_;
  RuntimeBackends backends_;
  Publisher publisher_;
  Supervisor supervisor_;
  TaskService service_;
  Sandbox sandbox_;
  SandboxService sandbox_service_;
  ttrpc::Server server_;
  asio::signal_set signals_;
  asio::steady_timer idle_timer_, leave_timer_, trim_timer_;
  std::deque<Clock::time_point> reservations_;  // of helpers whose container has not come yet
  Clock::time_point others_until_{};
  bool asked_to_leave_ = false, leaving_ = false, trim_armed_ = false;
};

void prepare_process() {
  ::signal(SIGPIPE, SIG_IGN);
  // The kernel's own choice is the number of the descriptor that we were executed by.
  ::prctl(PR_SET_NAME, "containerd-shim", 0, 0, 0);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  // Nothing that joins a namespace of ours, or that a container runs, may trace us.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::fcntl(kListenerFd, F_SETFD, FD_CLOEXEC);
  // One heap: threads come and go, and an arena for each would keep what they left.
  ::mallopt(M_ARENA_MAX, 1);
}

}  // namespace

int serve(const Flags& flags) {
  prepare_process();
  try {
    // Not on the stack's end: the process leaves by _exit, without waiting for workers or running
    // destructors that nobody would see.
    auto* const shim = new Shim(flags);
    shim->run();
    ::_exit(0);
  } catch (const std::exception& exception) {
    make_logger(open_log_fifo(), "", true)->critical("{}", exception.what());
  }
  return 1;
}

}  // namespace amphora::shim
