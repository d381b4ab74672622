// SPDX-License-Identifier: Apache-2.0
// bench_clone HOST ENGINES ENGINE ARTIFACT ROUNDS: the wasm host's part of a start. A zygote is asked, as the shim asks
// it, for clones whose plan has nothing but the streams and the guest: no namespaces, mounts, limits. Prints the
// microseconds from the request to the guest's first byte on its stdout, one line a round.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/setup/plan.h"
#include "wasm/handover.h"
#include "wasm/zygote.h"

namespace amphora {
namespace {

double now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

setup::Plan plan_of(const int (&stdio)[3], int artifact) {
  setup::Builder b;
  for (uint64_t n = 0; n < 3; ++n) {
    const int32_t fd = b.given(stdio[n], "stdio");
    init::Step& s = b.step(init::Op::kStdio, "set up stdio");
    s.fd = fd;
    s.n = n;
  }
  wasm::Handover handover;
  handover.path = "/guest.wasm";
  handover.cwd = "/";
  handover.args = {"/guest.wasm", "echo", "hello"};
  const std::string bytes = encode(handover);
  const int32_t fd = b.given(artifact, "artifact");
  const uint32_t at = b.bytes(bytes.data(), bytes.size());
  init::Step& s = b.step(init::Op::kHandOver, "load the guest");
  s.a = at;
  s.n = bytes.size();
  s.fd = fd;
  s.m = 1;
  b.step(init::Op::kReady, "ready");
  b.step(init::Op::kHandOver, "run the guest");
  return b.finish();
}

Result<double> once(wasm::Zygote& zygote, Children& children, int artifact) {
  int out[2];
  int status[2];
  if (::pipe2(out, O_CLOEXEC) != 0) return fail_errno(errno, "make a pipe");
  const UniqueFd from_guest(out[0]);
  UniqueFd to_us(out[1]);
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) != 0) {
    return fail_errno(errno, "make a socket pair");
  }
  const UniqueFd ours(status[0]);
  UniqueFd theirs(status[1]);
  TRY_ASSIGN(const UniqueFd null, open_at(AT_FDCWD, "/dev/null", O_RDWR));
  setup::Plan plan = plan_of({null.get(), to_us.get(), null.get()}, artifact);
  TRY(open_sources(plan, -1, {}));
  const double begun = now();
  Result<Process> process = [&] {
    const std::lock_guard lock(children.mutex());
    auto made = zygote.clone_locked({plan.blob(), plan.fds(), 0, -1, -1, theirs.get()});
    if (made) children.add_locked(made->pid);
    return made;
  }();
  if (!process) return std::unexpected(std::move(process).error());
  to_us.reset();
  theirs.reset();
  char byte = 0;
  const ssize_t n = ::read(from_guest.get(), &byte, 1);
  const double taken = now() - begun;
  TRY_ASSIGN(const ExitStatus end, wait_for(*process));
  children.remove(process->pid);
  if (n != 1 || end.code() != 0) return fail(Errc::kSystem, "the guest said nothing or failed");
  return taken;
}

Result<void> measure(char** words) {
  Children children;
  wasm::HostProgram program(wasm::Programs{words[1], words[2]}, children);
  wasm::Zygote zygote(program, words[3]);
  TRY_ASSIGN(const UniqueFd artifact, open_at(AT_FDCWD, words[4], O_RDONLY));
  TRY(zygote.warm_up());
  const int rounds = std::atoi(words[5]);
  for (int round = -3; round < rounds; ++round) {
    TRY_ASSIGN(const double taken, once(zygote, children, artifact.get()));
    if (round >= 0) std::printf("%.1f\n", taken);
  }
  return {};
}

}  // namespace
}  // namespace amphora

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const auto done = amphora::measure(argv);
  if (!done) std::fprintf(stderr, "%s\n", done.error().what().c_str());
  return done ? 0 : 1;
}
