// SPDX-License-Identifier: Apache-2.0
// See guest.h. Order: the shared steps up to the first kHandOver have made the container; then what
// exec would do to a native program, then the engine loads the artifact (so that its errors fail
// create), then the walk resumes (ready, start, hooks, late seccomp filter), then the guest runs.
#include "wasm/host/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "executor/init/init.h"
#include "executor/init/step.h"
#include "wasm/handover.h"
#include "wasm/host/as_exec.h"
#include "wasm/host/engine.h"
#include "wasm/host/listen.h"
#include "wasm/host/preopens.h"
#include "wasm/host/signals.h"

namespace amphora::wasm {
namespace {

constexpr int kRuntimeFailure = 125;
/// The engine reserves about 4 GiB of address space with guard pages for one linear memory.
constexpr uint64_t kAddressSpaceWanted = uint64_t{8} << 30;
constexpr uint64_t kDescriptorsWanted = 64;

struct Guest {
  const amphora_engine& engine;
  init::Walk walk;
  HandoverView handover;
  std::string
      bytes;  ///< the handover's own copy: the plan's memory is given back before the guest runs
  Preopens preopens{handover, walk};
  amphora_config config{};
  amphora_guest guest{};
};

/// The engine's callback has no other way to its guest.
Guest* g_loading = nullptr;

/// One line on the container's stderr. Create or start carries the same text; a reader that is not
/// there must not hold us up.
void complain(const char* path, const char* text) noexcept {
  char line[700];
  const int n = std::snprintf(line, sizeof line, "amphora: %s: %s\n", path, text);
  if (n <= 0) return;
  struct pollfd poll_fd{2, POLLOUT, 0};
  if (::poll(&poll_fd, 1, 0) != 1 || (poll_fd.revents & POLLOUT) == 0) return;
  const auto size = static_cast<size_t>(n) < sizeof line ? static_cast<size_t>(n) : sizeof line - 1;
  [[maybe_unused]] const ssize_t written = ::write(2, line, size);
}

[[noreturn]] void refuse(Guest& guest, int exit_code, const char* text) noexcept {
  const char* path = guest.handover.path != nullptr ? guest.handover.path : "wasm guest";
  complain(path, text);
  char line[init::kFailureTextMax];
  const int n = std::snprintf(line, sizeof line, "%s: %s", path, text);
  const size_t size = n < 0 ? 0 : static_cast<size_t>(n);
  init::fail_text(guest.walk, exit_code, line,
                  static_cast<uint32_t>(size < sizeof line ? size : sizeof line - 1));
}

/// Limits that the spec set, that stop an engine, and that its own message will not name.
void append_limit_hints(char* text, size_t capacity) noexcept {
  const struct {
    __rlimit_resource resource;
    const char* name;
    uint64_t wanted;
  } limits[] = {{RLIMIT_AS, "RLIMIT_AS", kAddressSpaceWanted},
                {RLIMIT_DATA, "RLIMIT_DATA", uint64_t{64} << 20},
                {RLIMIT_NOFILE, "RLIMIT_NOFILE", kDescriptorsWanted},
                {RLIMIT_NPROC, "RLIMIT_NPROC", 16}};
  for (const auto& limit : limits) {
    struct rlimit now{};
    if (::getrlimit(limit.resource, &now) != 0 || now.rlim_cur >= limit.wanted) continue;
    const size_t used = std::strlen(text);
    std::snprintf(text + used, capacity - used, " (%s of %llu may be too low for the wasm engine)",
                  limit.name, static_cast<unsigned long long>(now.rlim_cur));
  }
  // NPROC and AS may be fine and the spec's filter be what denies mmap or futex.
  if (::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0) {
    const size_t used = std::strlen(text);
    std::snprintf(text + used, capacity - used, " (a seccomp filter is in force)");
  }
}

/// The first kHandOver step: a, n are the Handover's place in the text, fd and m its descriptors.
const init::Step* find_handover(const init::View& view) noexcept {
  for (uint32_t i = 0; i < view.header->step_count; ++i) {
    if (view.steps[i].op == init::Op::kHandOver) return &view.steps[i];
  }
  return nullptr;
}

bool read_handover(Guest& guest, const init::View& view) {
  const init::Step* step = find_handover(view);
  if (step == nullptr || step->fd < 0 || step->m < kHandoverFds) return false;
  const auto first = static_cast<uint32_t>(step->fd);
  if (first >= view.fd_count || step->m > view.fd_count - first) return false;
  if (step->a > view.header->text_size || step->n > view.header->text_size - step->a) return false;
  guest.bytes.assign(view.text + step->a, step->n);
  if (!decode(guest.bytes, &guest.handover)) return false;
  guest.guest.artifact_fd = view.fds[first + kArtifactFd];
  return true;
}

/// The preopens keep the view from here on, and the namespace's descriptor its mounts.
void open_preopens(Guest& guest) {
  const char* missing = guest.preopens.open();
  if (missing != nullptr) {
    char text[400];
    std::snprintf(text, sizeof text, "preopen %.200s: %s", missing, std::strerror(errno));
    refuse(guest, kRuntimeFailure, text);
  }
  for (int* fd : {&guest.walk.view_root, &guest.walk.view_cwd}) {
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  }
}

/// amphora_guest::listen.
int listen_for(const amphora_guest*, amphora_error* error) {
  Guest& guest = *g_loading;
  ListenSettings settings;
  if (!take_settings(&guest.handover.env, &settings, error->text, error->capacity)) return -1;
  guest.guest.env = guest.handover.env.data();
  if (guest.handover.listen[0] != '\0') settings.address = guest.handover.listen;
  if (guest.handover.backlog != 0) settings.backlog = static_cast<int>(guest.handover.backlog);
  guest.guest.listen_fd = open_listener(settings, error->text, error->capacity);
  return guest.guest.listen_fd;
}

void load(Guest& guest) {
  open_preopens(guest);
  guest.config = {sizeof guest.config, guest.handover.options.data(), nullptr};
  amphora_guest& g = guest.guest;
  g.size = sizeof g;
  g.entry = guest.handover.function[0] != '\0' ? guest.handover.function : nullptr;
  g.args = guest.handover.args.data();
  g.env = guest.handover.env.data();
  g.preopens = guest.preopens.list().data();
  g.preopen_count = guest.preopens.list().size();
  for (int i = 0; i < 3; ++i) g.stdio[i] = ::fcntl(i, F_GETFD) >= 0 ? i : -1;
  g.listen_fd = -1;
  g.memory_limit = guest.handover.memory_limit;
  g.config = &guest.config;
  g.listen = listen_for;
  g_loading = &guest;
  char text[512] = "the engine cannot load it";
  amphora_error error{text, sizeof text - 200};
  const int result = guest.engine.load(&g, &error);
  if (result == AMPHORA_OK) return;
  if (result == AMPHORA_ERR_SYSTEM) append_limit_hints(text, sizeof text);
  refuse(guest, exit_code_of(result), text);
}

/// Exec's share, as far as it may be done before the container is started. Under a filter that denies
/// capset nothing must be left undone silently.
void become_payload(Guest& guest) {
  const char* call = "";
  const int err = take_exec_capabilities(&call);
  if (err != 0) {
    char text[200];
    std::snprintf(text, sizeof text, "set capabilities as exec would: %s: %s%s", call,
                  std::strerror(err),
                  ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0
                      ? " (allow it in the seccomp profile or set noNewPrivileges)"
                      : "");
    refuse(guest, kRuntimeFailure, text);
  }
  set_title(guest.handover.args.data(), guest.handover.env.data());
}

[[noreturn]] void run(Guest& guest) {
  int exit_code = kRuntimeFailure;
  char text[512] = "the engine failed";
  amphora_error error{text, sizeof text - 200};
  const int result = guest.engine.run(&guest.guest, &exit_code, &error);
  if (result != AMPHORA_OK) {
    exit_code = exit_code_of(result);
    // A trap's text and backtrace are the engine's to write.
    if (result != AMPHORA_ERR_TRAP) {
      if (result == AMPHORA_ERR_SYSTEM) append_limit_hints(text, sizeof text);
      complain(guest.handover.path, text);
    }
  }
  ::_exit(exit_code);
}

/// Closes the plan's descriptors that no step from `next` on needs, but for `kept`. By number, and so
/// before anything is opened, which may get a number that a step has closed.
void close_spent(const init::View& view, uint32_t next, int kept) noexcept {
  const init::Step* last = view.steps + view.header->step_count;
  for (uint32_t i = 0; i < view.fd_count; ++i) {
    bool needed = false;
    for (const init::Step* step = view.steps + next; step < last; ++step) {
      needed = needed || (step->op != init::Op::kHandOver && step->fd == static_cast<int32_t>(i));
    }
    if (!needed && view.fds[i] > 2 && view.fds[i] != kept) ::close(view.fds[i]);
  }
}

/// Closes those that the steps from `from` on have used. Steps open nothing that stays, so a number that
/// a step has closed itself is still free.
void close_late(const init::View& view, uint32_t from) noexcept {
  for (uint32_t i = from; i < view.header->step_count; ++i) {
    const init::Step& step = view.steps[i];
    if (step.op == init::Op::kHandOver || step.fd < 0) continue;
    if (static_cast<uint32_t>(step.fd) < view.fd_count) ::close(view.fds[step.fd]);
  }
}

}  // namespace

void run_guest(const amphora_engine& engine, const init::View& view, const LibcThread& thread,
               int status_fd) noexcept {
  Guest guest{.engine = engine, .walk = {.status_fd = status_fd}, .handover = {}, .bytes = {}};
  guest.walk.libc = {thread.tid, thread.clear, thread.robust, thread.robust_size};
  if (!read_handover(guest, view)) {
    refuse(guest, kRuntimeFailure, "the handover of the wasm executor is malformed");
  }
  init::run(view, guest.walk);
  const int artifact = guest.guest.artifact_fd;
  const uint32_t loaded_at = guest.walk.next;
  close_spent(view, loaded_at, artifact);
  if (guest.walk.root_fd > 2) ::close(std::exchange(guest.walk.root_fd, -1));
  if (guest.walk.dir_fd > 2) ::close(std::exchange(guest.walk.dir_fd, -1));
  become_payload(guest);
  load(guest);
  ::close(artifact);
  guest.guest.artifact_fd = -1;
  init::run(view, guest.walk);
  close_late(view, loaded_at);
  // Before the starter is answered: a signal that follows must not be lost. After the hooks, whose
  // ends an ignored SIGCHLD would hide.
  install_signal_handlers(guest.engine);
  // Its end of file tells the starter that the guest runs, as close-on-exec does for a native program.
  ::close(guest.walk.status_fd);
  // The plan names paths of the host. From here on this is the tenant's process, dumpable as after
  // exec of a readable program.
  const init::Header& header = *view.header;
  ::munmap(const_cast<init::Header*>(&header),
           sizeof header + header.step_count * sizeof(init::Step) + header.text_size);
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  run(guest);
}

}  // namespace amphora::wasm
