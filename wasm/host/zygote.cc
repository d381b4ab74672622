// SPDX-License-Identifier: Apache-2.0
// See zygote.h. The zygote lives in its client's namespaces and cgroup. What it holds between requests
// is the socket, its own pid namespace, and the engine; a clone gets the plan and descriptors of its
// own container only.
#include "wasm/host/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "executor/init/init.h"
#include "executor/init/step.h"
#include "wasm/host/as_exec.h"
#include "wasm/host/engine.h"
#include "wasm/host/guest.h"
#include "wasm/host/libc_clone.h"
#include "wasm/host/view.h"
#include "wasm/zygote_protocol.h"

namespace amphora::wasm {
namespace {

/// A request with its descriptors, by place (zygote_protocol.h).
struct Received {
  Request request{};
  std::vector<int> fds;

  int memfd() const noexcept { return fds[0]; }
  int status() const noexcept { return fds[1]; }
  int cgroup() const noexcept { return request.has_cgroup != 0 ? fds[2] : -1; }
  int pid_namespace() const noexcept {
    return request.has_pid_namespace != 0 ? fds[request.has_cgroup != 0 ? 3 : 2] : -1;
  }
  uint32_t plan_at() const noexcept {
    return 2U + (request.has_cgroup != 0) + (request.has_pid_namespace != 0);
  }
};

struct Zygote {
  int socket;
  int own_pid_namespace = -1;
  const amphora_engine* engine = nullptr;
  LibcThread thread;
};

/// One datagram of up to `size` bytes; its descriptors are appended. -1 at the end or on trouble.
ssize_t receive(int socket, void* data, size_t size, std::vector<int>* fds) noexcept {
  alignas(struct cmsghdr) static char control[CMSG_SPACE(kFdsPerMessage * sizeof(int))];
  struct iovec part{data, size};
  struct msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  do {
    n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return -1;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t before = fds->size();
    fds->resize(before + count);
    std::memcpy(fds->data() + before, CMSG_DATA(c), count * sizeof(int));
  }
  return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 ? n : -1;
}

/// The whole request, or false: the client has gone, or broke the protocol, which is the end too.
bool receive_request(int socket, Received* in) {
  in->fds.clear();
  if (receive(socket, &in->request, sizeof in->request, &in->fds) != sizeof in->request)
    return false;
  const Request& r = in->request;
  if (r.protocol != kProtocol || r.fd_count > kMaxFds || r.fd_count < in->plan_at()) return false;
  while (in->fds.size() < r.fd_count) {
    char byte = 0;
    if (receive(socket, &byte, 1, &in->fds) != 1) return false;
  }
  return in->fds.size() == r.fd_count;
}

void close_all(const std::vector<int>& fds) noexcept {
  for (const int fd : fds) ::close(fd);
}

/// Leaves the clone with stdio and what belongs to its container: the zygote's socket must not reach a
/// tenant, nor anything that an engine or a library may have left open.
void close_others(const Received& in) {
  std::vector<int> kept(in.fds.begin() + in.plan_at(), in.fds.end());
  kept.push_back(in.memfd());
  kept.push_back(in.status());
  std::sort(kept.begin(), kept.end());
  int next = 3;
  for (const int fd : kept) {
    if (fd > next) {
      ::syscall(SYS_close_range, static_cast<unsigned>(next), static_cast<unsigned>(fd - 1), 0U);
    }
    next = std::max(next, fd + 1);
  }
  ::syscall(SYS_close_range, static_cast<unsigned>(next), ~0U, 0U);
}

/// Checks that the plan's parts lie within its bytes: a mismatch of versions must not walk wild.
bool view_plan(const void* memory, uint32_t size, init::View* view) noexcept {
  if (size < sizeof(init::Header)) return false;
  const auto* header = static_cast<const init::Header*>(memory);
  const uint64_t steps = uint64_t{header->step_count} * sizeof(init::Step);
  if (header->magic != init::kMagic || header->version != init::kVersion ||
      sizeof *header + steps + header->text_size != size) {
    return false;
  }
  view->header = header;
  view->steps = reinterpret_cast<const init::Step*>(header + 1);
  view->text = reinterpret_cast<const char*>(view->steps + header->step_count);
  return true;
}

/// The clone's whole life.
[[noreturn]] void be_guest(const Zygote& zygote, const Received& in) noexcept {
  close_others(in);
  init::View view{};
  // Writable: a hook's argument tables are made into pointers in place, in this private copy.
  void* memory =
      ::mmap(nullptr, in.request.plan_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, in.memfd(), 0);
  ::close(in.memfd());
  if (memory == MAP_FAILED || !view_plan(memory, in.request.plan_size, &view)) {
    init::Walk walk{.status_fd = in.status()};
    const char text[] = "wasm host: the plan does not fit this version of amphora-wasm";
    init::fail_text(walk, 125, text, sizeof text - 1);
  }
  view.fds = in.fds.data() + in.plan_at();
  view.fd_count = static_cast<uint32_t>(in.fds.size()) - in.plan_at();
  run_guest(*zygote.engine, view, zygote.thread, in.status());
}

void reply(const Zygote& zygote, const Reply& answer, int pidfd) noexcept {
  struct iovec part{const_cast<Reply*>(&answer), sizeof answer};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (pidfd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &pidfd, sizeof pidfd);
  }
  // A client that has gone is noticed by the next receive.
  [[maybe_unused]] const ssize_t sent = ::sendmsg(zygote.socket, &message, MSG_NOSIGNAL);
}

Reply failed(const char* call, int err) noexcept {
  Reply answer{-1, err, {}};
  std::snprintf(answer.call, sizeof answer.call, "%s", call);
  return answer;
}

/// Clones for one request. Joining a pid namespace is setns around the clone: it concerns children
/// only, and the zygote goes back to its own.
void answer(const Zygote& zygote, const Received& in) noexcept {
  const int joined = in.pid_namespace();
  if (joined >= 0 && ::setns(joined, CLONE_NEWPID) != 0) {
    reply(zygote, failed("join the pid namespace", errno), -1);
    return;
  }
  int pidfd = -1;
  const pid_t pid = clone_for_parent(zygote.thread, in.request.clone_flags, in.cgroup(), &pidfd);
  if (pid == 0) be_guest(zygote, in);
  const int err = errno;
  if (joined >= 0 && ::setns(zygote.own_pid_namespace, CLONE_NEWPID) != 0) ::_exit(125);
  if (pid < 0) {
    reply(zygote, failed("clone3", err), -1);
    return;
  }
  reply(zygote, Reply{pid, 0, {}}, pidfd);
  ::close(pidfd);
}

/// Starts the engine. True, or the Hello's text says why not.
bool start_engine(const ZygoteOptions& options, Zygote* zygote, Hello* hello) noexcept {
  const amphora_engine* engine =
      load_engine(options.engine_dir, "engine", options.engine, hello->text, sizeof hello->text);
  if (engine == nullptr) return false;
  const char* const none[] = {nullptr};
  const amphora_config config{sizeof config, none, nullptr};
  char text[300] = "failed";
  amphora_error error{text, sizeof text};
  if (engine->prepare != nullptr && engine->prepare(&config, &error) != AMPHORA_OK) {
    std::snprintf(hello->text, sizeof hello->text, "start engine \"%s\": %s", options.engine, text);
    return false;
  }
  if (!find_libc_thread(&zygote->thread)) {
    std::snprintf(hello->text, sizeof hello->text,
                  "this kernel does not tell where libc keeps its thread id");
    return false;
  }
  zygote->engine = engine;
  hello->capabilities = engine->capabilities != nullptr ? engine->capabilities() : 0;
  std::snprintf(hello->engine, sizeof hello->engine, "%s", engine->name);
  std::snprintf(hello->version, sizeof hello->version, "%s", engine->version);
  return true;
}

}  // namespace

int serve_zygote(const ZygoteOptions& options) noexcept {
  // Whoever may trace the zygote would see every container's clone begin.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::prctl(PR_SET_NAME, "amphora-wasm", 0, 0, 0);
  for (int fd = 3; fd < options.socket; ++fd) ::close(fd);
  const int last = options.socket + (options.in_view ? 2 : 0);
  ::syscall(SYS_close_range, static_cast<unsigned>(last + 1), ~0U, 0U);
  ::fcntl(options.socket, F_SETFD, FD_CLOEXEC);
  find_title();
  Zygote zygote{options.socket, -1, nullptr, {}};
  Hello hello{};
  hello.protocol = kProtocol;
  hello.ok = start_engine(options, &zygote, &hello) ? 1 : 0;
  if (options.in_view && !leave_view(options.socket)) return 125;
  zygote.own_pid_namespace = ::open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  if (::send(options.socket, &hello, sizeof hello, MSG_NOSIGNAL) < 0 || hello.ok == 0) return 125;
  Received in;
  while (receive_request(options.socket, &in)) {
    answer(zygote, in);
    close_all(in.fds);
  }
  return 0;
}

}  // namespace amphora::wasm
