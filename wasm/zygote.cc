// SPDX-License-Identifier: Apache-2.0
// See zygote.h and zygote_protocol.h.
#include "wasm/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <expected>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/plan.h"
#include "wasm/zygote_protocol.h"

namespace amphora::wasm {
namespace {

/// Loading an engine from a cold disk takes a second or two; a request takes a millisecond.
constexpr int kStartTimeoutMs = 30000;
constexpr int kReplyTimeoutMs = 30000;

/// posix_spawn's two structs, destroyed whatever happens.
struct SpawnSetup {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
};

/// A fresh program's signals and a session of its own: the terminal's Ctrl-C is the container's.
void set_attributes(posix_spawnattr_t* attributes) {
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(attributes, &none);
  ::posix_spawnattr_setsigdefault(attributes, &all);
  ::posix_spawnattr_setflags(attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
}

Result<UniqueFd> sealed_memfd(std::string_view bytes) {
  UniqueFd fd(sys::memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno(errno, "make a memfd for the plan");
  TRY(write_all(fd.get(), bytes));
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "seal the plan");
  return fd;
}

/// Waits until the socket has something to read.
Result<void> await_readable(int socket, int timeout_ms) {
  struct pollfd poll_fd{socket, POLLIN, 0};
  int n = 0;
  do {
    n = ::poll(&poll_fd, 1, timeout_ms);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return fail_errno(errno, "wait for the wasm host");
  if (n == 0) return fail(Errc::kSystem, "the wasm host does not answer");
  return {};
}

std::string ended(const ExitStatus& status) {
  return status.signal() != 0 ? "ended by signal " + std::to_string(status.signal())
                              : "ended with " + std::to_string(status.code());
}

}  // namespace

const Programs& HostProgram::programs() {
  const std::lock_guard lock(find_mutex_);
  if (!programs_) programs_ = find_programs();
  return *programs_;
}

Result<Process> HostProgram::start_locked(std::span<const std::string> args,
                                          std::span<const int> fds, int error_fd) {
  if (!exe_) {
    auto sealed = sys::seal_executable((programs().*which_).c_str());
    if (!sealed) return std::unexpected(std::move(sealed).error().context(programs().*which_));
    exe_ = std::move(*sealed);
  }
  // Descriptors 3 and up are placed by dup2, so the sources must lie beyond the places.
  std::vector<UniqueFd> moved;
  SpawnSetup setup;
  set_attributes(&setup.attributes);
  ::posix_spawn_file_actions_addopen(&setup.actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&setup.actions, 1, "/dev/null", O_WRONLY, 0);
  if (error_fd >= 0) {
    ::posix_spawn_file_actions_adddup2(&setup.actions, error_fd, 2);
  } else {
    ::posix_spawn_file_actions_addopen(&setup.actions, 2, "/dev/null", O_WRONLY, 0);
  }
  const int beyond = 3 + static_cast<int>(fds.size());
  UniqueFd const exe(::fcntl(exe_.get(), F_DUPFD_CLOEXEC, beyond));
  if (!exe) return fail_errno(errno, "duplicate the wasm host's descriptor");
  for (size_t i = 0; i < fds.size(); ++i) {
    moved.emplace_back(::fcntl(fds[i], F_DUPFD_CLOEXEC, beyond));
    if (!moved.back()) return fail_errno(errno, "duplicate a descriptor for the wasm host");
    ::posix_spawn_file_actions_adddup2(&setup.actions, moved.back().get(), 3 + static_cast<int>(i));
  }
  const std::string& program = programs().*which_;
  const std::string name = program.substr(program.find_last_of('/') + 1);
  std::vector<char*> argv{const_cast<char*>(name.c_str())};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  char* const environment[] = {nullptr};
  const std::string path = "/proc/self/fd/" + std::to_string(exe.get());
  Process process;
  const int err = ::posix_spawn(&process.pid, path.c_str(), &setup.actions, &setup.attributes,
                                argv.data(), environment);
  if (err != 0) return fail_errno(err, "start " + program);
  children_.add_locked(process.pid);
  process.pidfd.reset(sys::pidfd_open(process.pid, 0));
  if (!process.pidfd) return fail_errno(errno, "open process " + std::to_string(process.pid));
  return process;
}

Zygote::~Zygote() {
  const std::lock_guard lock(program_.children().mutex());
  if (running_) static_cast<void>(bury_locked());
}

pid_t Zygote::pid() {
  const std::lock_guard lock(program_.children().mutex());
  return running_ && !is_dead() ? running_->process.pid : 0;
}

Result<void> Zygote::warm_up() {
  const std::lock_guard lock(program_.children().mutex());
  return ensure_locked();
}

Result<Process> Zygote::spawn(const setup::SpawnRequest& request) {
  return clone_locked({request.plan.blob(), request.plan.fds(), request.clone_flags,
                       request.cgroup_fd, request.pid_namespace_fd, request.status_fd});
}

Result<Process> Zygote::clone_locked(const CloneRequest& request) {
  TRY(ensure_locked());
  auto process = ask(request);
  // Whether an unanswered request has made a clone is unknown: it sees its status socket close and
  // ends. The next request finds a fresh zygote.
  if (!process && is_dead()) static_cast<void>(bury_locked());
  return process;
}

void Zygote::begin() {
  const std::lock_guard lock(program_.children().mutex());
  if (!running_) static_cast<void>(start_locked());
}

Result<void> Zygote::ensure_locked() {
  // A fresh one that has died leaves a Hello with the reason behind.
  if (running_ && running_->greeted && is_dead()) static_cast<void>(bury_locked());
  auto ready = running_ ? Result<void>() : start_locked();
  if (ready && !running_->greeted) ready = greet_locked();
  if (!ready) {
    return std::unexpected(std::move(ready).error().context("wasm engine " + engine_));
  }
  return {};
}

bool Zygote::is_dead() const {
  struct pollfd poll_fd{running_->socket.get(), 0, 0};
  return ::poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLERR)) != 0;
}

/// Ends and reaps it. Its clones are not its children and live on.
Result<ExitStatus> Zygote::bury_locked() {
  sys::pidfd_send_signal(running_->process.pidfd.get(), SIGKILL);
  auto status = wait_for(running_->process);
  program_.children().remove_locked(running_->process.pid);
  running_.reset();
  return status;
}

Result<void> Zygote::start_locked() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return fail_errno(errno, "make a socket pair");
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  const std::string args[] = {"zygote",   "3",    "--engine-dir", program_.programs().engine_dir,
                              "--engine", engine_};
  const int fds[] = {theirs.get()};
  TRY_ASSIGN(auto process, program_.start_locked(args, fds, -1));
  running_ = Running{std::move(process), std::move(ours)};
  return {};
}

/// Waits for the Hello. Without a good one the zygote is gone, and the next request tries anew.
Result<void> Zygote::greet_locked() {
  Hello hello{};
  auto readable = await_readable(running_->socket.get(), kStartTimeoutMs);
  const ssize_t n =
      readable ? ::recv(running_->socket.get(), &hello, sizeof hello, MSG_DONTWAIT) : -1;
  const bool understood = n == sizeof hello && hello.protocol == kProtocol;
  if (understood && hello.ok != 0) {
    running_->greeted = true;
    return {};
  }
  const auto status = bury_locked();
  TRY(readable);
  if (understood) {
    hello.text[sizeof hello.text - 1] = '\0';
    return fail(Errc::kUnsupported, hello.text);
  }
  return fail(Errc::kInternal, "the wasm host " + (status ? ended(*status) : "ended") +
                                   " while it started the engine");
}

Result<Process> Zygote::ask(const CloneRequest& request) {
  TRY_ASSIGN(const UniqueFd memfd, sealed_memfd(request.blob));
  Request head{};
  head.protocol = kProtocol;
  head.clone_flags = request.clone_flags;
  head.plan_size = static_cast<uint32_t>(request.blob.size());
  std::vector<int> fds{memfd.get(), request.status_fd};
  if (request.cgroup_fd >= 0) {
    head.has_cgroup = 1;
    fds.push_back(request.cgroup_fd);
  }
  if (request.pid_namespace_fd >= 0) {
    head.has_pid_namespace = 1;
    fds.push_back(request.pid_namespace_fd);
  }
  fds.insert(fds.end(), request.fds.begin(), request.fds.end());
  if (fds.size() > kMaxFds) return fail(Errc::kUnsupported, "the plan has too many descriptors");
  head.fd_count = static_cast<uint32_t>(fds.size());

  const int socket = running_->socket.get();
  std::string_view part(reinterpret_cast<const char*>(&head), sizeof head);
  for (size_t at = 0; at < fds.size(); at += kFdsPerMessage) {
    const size_t count = std::min<size_t>(kFdsPerMessage, fds.size() - at);
    TRY(send_with_fds(socket, part, std::span(fds).subspan(at, count)));
    part = "+";
  }
  TRY(await_readable(socket, kReplyTimeoutMs));
  TRY_ASSIGN(Received answer, receive_with_fds(socket, sizeof(Reply)));
  if (answer.data.empty())
    return fail(Errc::kInternal, "the wasm host ended while it made a clone");
  Reply reply;
  if (answer.data.size() != sizeof reply)
    return fail(Errc::kInternal, "the wasm host's answer is malformed");
  std::memcpy(&reply, answer.data.data(), sizeof reply);
  reply.call[sizeof reply.call - 1] = '\0';
  if (reply.err != 0) return fail_errno(reply.err, std::string("wasm host: ") + reply.call);
  if (answer.fds.size() != 1) return fail(Errc::kInternal, "the wasm host sent no pidfd");
  Process process{reply.pid, std::move(answer.fds.front()), 0};
  TRY_ASSIGN(process.start_time, start_time_of(process.pid));
  return process;
}

}  // namespace amphora::wasm
