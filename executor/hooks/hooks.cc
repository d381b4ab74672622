// SPDX-License-Identifier: Apache-2.0
// Boost.Process launches the hook (fork, exec, error of exec reported back); waiting, the timeout
// and the captured output are a plain poll loop. The only file that includes Boost.Process: its
// headers bring std::filesystem and Asio, which nothing on the start path may touch.
#include "executor/hooks/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <expected>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
#pragma GCC diagnostic ignored "-Wreturn-type"
#define BOOST_PROCESS_V2_HEADER_ONLY 1
#include <boost/process/v2/posix/default_launcher.hpp>
// Not inline even in the header-only build, so its one copy is here.
#include <boost/process/v2/posix/detail/close_handles.ipp>
#pragma GCC diagnostic pop

#include "executor/base/sys.h"

namespace amphora::hooks {
namespace {

/// What the launcher runs in. Boost's own process class and io_context are left out on purpose:
/// they would add static initializers to every start of amphora and an epoll descriptor to every
/// hook, and the wait for a hook is our own poll loop anyway.
struct LaunchContext {
  boost::asio::execution_context* context;

  template <class Function>
  void execute(Function&& function) const {
    std::forward<Function>(function)();
  }
  boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept {
    return *context;
  }
  bool operator==(const LaunchContext&) const noexcept = default;
};

}  // namespace
}  // namespace amphora::hooks

/// The launcher's result: nothing but the pid, whose owner is amphora::Process.
template <>
struct boost::process::v2::basic_process<amphora::hooks::LaunchContext> {
  explicit basic_process(const amphora::hooks::LaunchContext&, int launched = -1) : pid(launched) {}
  int pid;
};

namespace amphora::hooks {
namespace {

namespace bp = boost::process::v2;
using Clock = std::chrono::steady_clock;

/// How much of each output stream is kept for the error: its end, where the reason stands.
constexpr size_t kKeptOutput = 4096;

/// Runs in the forked child, before exec.
struct ChildSetup {
  int in, out, err;

  boost::system::error_code on_exec_setup(bp::posix::default_launcher&, const bp::filesystem::path&,
                                          const char* const*&) const {
    // SAFETY: between fork and exec, system calls only. A group of its own, so that a timeout ends
    // what the hook started too; the caller's blocked and ignored signals (a shim ignores SIGPIPE)
    // are not the hook's business.
    sigset_t none;
    sigemptyset(&none);
    struct sigaction fresh{};
    fresh.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &fresh, nullptr);
    if (setpgid(0, 0) != 0 || sigprocmask(SIG_SETMASK, &none, nullptr) != 0 || dup2(in, 0) < 0 ||
        dup2(out, 1) < 0 || dup2(err, 2) < 0) {
      return {errno, boost::system::system_category()};
    }
    return {};
  }
  /// Instead of the launcher's exit(): no atexit handler or stdio buffer of ours runs in the child.
  /// Variadic because 1.81 probes for this member with one argument more than it passes.
  template <class... Ignored>
  void on_exec_error(Ignored&&...) const {
    _exit(127);
  }
};

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  Pipe made{UniqueFd(fds[0]), UniqueFd(fds[1])};
  // Only our end: the hook must see an ordinary blocking pipe.
  if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) return fail_errno(errno, "pipe O_NONBLOCK");
  return made;
}

/// A file rather than a pipe, so that a hook that never reads its stdin cannot block us.
Result<UniqueFd> stdin_with(const std::string& text) {
  UniqueFd file(sys::memfd_create("hook-state", MFD_CLOEXEC));
  if (!file) return fail_errno(errno, "memfd_create for the hook's state");
  TRY(write_all(file.get(), text));
  if (lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "lseek the hook's state");
  return file;
}

std::vector<const char*> pointers(const std::vector<std::string>& strings) {
  std::vector<const char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(s.c_str());
  out.push_back(nullptr);
  return out;
}

void reap(pid_t pid) {
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

/// Forks and execs under the lock of `children`, so that a subreaper never takes the hook's status.
Result<Process> launch(const oci::Hook& hook, const ChildSetup& setup, Children& children) {
  std::vector<const char*> argv = pointers(hook.args);
  if (hook.args.empty()) argv = {hook.path.c_str(), nullptr};
  const std::vector<const char*> env = pointers(hook.env);
  try {  // a door for Boost's and the standard library's exceptions
    boost::asio::execution_context context;
    bp::posix::default_launcher launcher;
    launcher.env = env.data();
    boost::system::error_code error;
    const std::lock_guard lock(children.mutex());
    const pid_t pid = launcher(LaunchContext{&context}, error, bp::filesystem::path(hook.path),
                               argv.data(), setup)
                          .pid;
    if (error) {
      // The failed child has told its errno and is exiting; it is ours to reap.
      if (launcher.pid > 0) reap(launcher.pid);
      return fail_errno(error.value(), "exec " + hook.path);
    }
    UniqueFd pidfd(sys::pidfd_open(pid, 0));
    if (!pidfd) {
      // Without a pidfd there is no waiting with a timeout, and waitid(P_PIDFD) neither.
      const int err = errno;
      kill(-pid, SIGKILL);
      waitpid(pid, nullptr, 0);
      return fail_errno(err, "pidfd_open of the hook");
    }
    children.add_locked(pid);
    return Process{pid, std::move(pidfd), 0};
  } catch (const std::exception& e) {
    return fail(Errc::kInternal, fmt::format("exec {}: {}", hook.path, e.what()));
  }
}

/// Reads what is there. Returns false when the other side has closed (or the pipe is broken).
bool drain(int fd, std::string& kept) {
  std::array<char, 4096> chunk;
  for (;;) {
    const ssize_t n = read(fd, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    kept.append(chunk.data(), static_cast<size_t>(n));
    if (kept.size() > kKeptOutput) kept.erase(0, kept.size() - kKeptOutput);
  }
}

struct Output {
  Pipe out, err;
  std::string out_text, err_text;
};

/// Milliseconds left until `deadline`, rounded up; -1 when there is none.
int milliseconds_left(const std::optional<Clock::time_point>& deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

/// Waits for the hook itself, not for what it left behind with our pipes open. False: time is up.
bool wait_until_exit(const Process& process, Output& output,
                     const std::optional<Clock::time_point>& deadline) {
  std::array<pollfd, 3> polled = {pollfd{process.pidfd.get(), POLLIN, 0},
                                  pollfd{output.out.read.get(), POLLIN, 0},
                                  pollfd{output.err.read.get(), POLLIN, 0}};
  for (;;) {
    // Looked at before every poll: a hook that never stops writing must not outrun its time.
    const int left = milliseconds_left(deadline);
    if (left == 0) return false;
    if (poll(polled.data(), polled.size(), left) <= 0) continue;  // EINTR or time is up
    if (polled[1].revents != 0 && !drain(polled[1].fd, output.out_text)) polled[1].fd = -1;
    if (polled[2].revents != 0 && !drain(polled[2].fd, output.err_text)) polled[2].fd = -1;
    if (polled[0].revents != 0) break;
  }
  if (polled[1].fd >= 0) drain(polled[1].fd, output.out_text);
  if (polled[2].fd >= 0) drain(polled[2].fd, output.err_text);
  return true;
}

std::string_view last_line(std::string_view text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const size_t start = text.rfind('\n');
  return start == std::string_view::npos ? text : text.substr(start + 1);
}

Result<void> run_one(const oci::Hook& hook, const std::string& state_json, Children& children) {
  TRY_ASSIGN(const UniqueFd in, stdin_with(state_json));
  Output output;
  TRY_ASSIGN(output.out, make_pipe());
  TRY_ASSIGN(output.err, make_pipe());
  std::optional<Clock::time_point> deadline;
  if (hook.timeout) deadline = Clock::now() + std::chrono::seconds(*hook.timeout);
  const ChildSetup setup{in.get(), output.out.write.get(), output.err.write.get()};
  TRY_ASSIGN(const Process process, launch(hook, setup, children));
  output.out.write.reset();
  output.err.write.reset();

  const bool in_time = wait_until_exit(process, output, deadline);
  // The leader is not reaped yet, so the group's number cannot have been taken by another.
  if (!in_time) kill(-process.pid, SIGKILL);
  auto status = wait_for(process);
  children.remove(process.pid);
  if (!status) return std::unexpected(std::move(status).error());
  if (!in_time) {
    return fail(Errc::kPrecondition,
                fmt::format("hook ran past specified timeout of {}s", *hook.timeout));
  }
  if (status->code() == 0) return {};
  const std::string how = status->signal() != 0
                              ? fmt::format("signal: {}", strsignal(status->signal()))
                              : fmt::format("exit status {}", status->code());
  return fail(Errc::kPrecondition,
              fmt::format("{}, stdout: {}, stderr: {}", how, last_line(output.out_text),
                          last_line(output.err_text)));
}

}  // namespace

Result<void> run(const char* kind, const std::vector<oci::Hook>& hooks,
                 const std::string& state_json, Children& children) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    if (auto done = run_one(hooks[i], state_json, children); !done) {
      return std::unexpected(
          std::move(done).error().context(fmt::format("error running {} hook #{}", kind, i)));
    }
  }
  return {};
}

}  // namespace amphora::hooks
