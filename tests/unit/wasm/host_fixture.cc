// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/wasm/host_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "executor/base/sys.h"

namespace amphora::wasm {

init::Step& PlanBytes::step(init::Op op) {
  init::Step step{};
  step.op = op;
  step.fd = -1;
  steps_.push_back(step);
  return steps_.back();
}

uint32_t PlanBytes::text(std::string_view bytes) {
  while (text_.size() % 8 != 0) text_.push_back('\0');
  const auto at = static_cast<uint32_t>(text_.size());
  text_.append(bytes).push_back('\0');
  return at;
}

std::string PlanBytes::blob() const {
  const init::Header header{init::kMagic, init::kVersion, static_cast<uint32_t>(steps_.size()),
                            static_cast<uint32_t>(text_.size())};
  std::string blob(reinterpret_cast<const char*>(&header), sizeof header);
  blob.append(reinterpret_cast<const char*>(steps_.data()), steps_.size() * sizeof(init::Step));
  return blob + text_;
}

Programs test_programs() { return {AMPHORA_WASM_HOST, AMPHORA_STUB_DIR}; }

UniqueFd stub_artifact(const std::string& module) {
  UniqueFd fd(sys::memfd_create("artifact", MFD_CLOEXEC));
  static_cast<void>(write_all(fd.get(), "STUB" + module));
  return fd;
}

namespace {

std::string drain(int fd) {
  auto text = read_all(fd);
  return text ? *text : "";
}

/// Reads messages until the socket ends: ready, or why not.
void follow(int status, Outcome* outcome) {
  for (;;) {
    char buffer[sizeof(init::Message) + init::kFailureTextMax];
    const ssize_t n = ::recv(status, buffer, sizeof buffer, 0);
    if (n < static_cast<ssize_t>(sizeof(init::Message))) return;
    init::Message message;
    std::memcpy(&message, buffer, sizeof message);
    const std::string text(buffer + sizeof message, static_cast<size_t>(n) - sizeof message);
    if (message.kind == init::MessageKind::kReady) outcome->ready = true;
    if (message.kind == init::MessageKind::kFailureText) {
      outcome->failure = text;
      outcome->failure_code = message.value;
    }
    if (message.kind == init::MessageKind::kFailure) {
      outcome->failure =
          "step " + std::to_string(message.step) + " errno " + std::to_string(message.err);
    }
  }
}

}  // namespace

Result<Process> make_clone(Zygote& zygote, Children& children, const CloneRequest& request) {
  const std::lock_guard lock(children.mutex());
  auto process = zygote.clone_locked(request);
  if (process) children.add_locked(process->pid);
  return process;
}

Result<Outcome> run_guest_in(Zygote& zygote, Children& children, const GuestRun& run) {
  int out[2], err[2], status[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
    return fail_errno(errno, "pipe");
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) != 0) {
    return fail_errno(errno, "socketpair");
  }
  UniqueFd out_read(out[0]), out_write(out[1]), err_read(err[0]), err_write(err[1]);
  UniqueFd ours(status[0]), theirs(status[1]);
  const UniqueFd artifact = stub_artifact(run.module);
  TRY_ASSIGN(const UniqueFd null, open_at(AT_FDCWD, "/dev/null", O_RDWR));
  std::vector<int> fds{null.get(), out_write.get(), err_write.get()};
  for (size_t i = 0; i < run.extra_fds; ++i) fds.push_back(null.get());
  const auto artifact_at = static_cast<int32_t>(fds.size());
  fds.push_back(artifact.get());

  PlanBytes plan;
  for (int i = 0; i < 3; ++i) {
    init::Step& step = plan.step(init::Op::kStdio);
    step.fd = i;
    step.n = static_cast<uint64_t>(i);
  }
  if (run.before) run.before(plan);
  Handover handover;
  handover.path = "/app.wasm";
  handover.function = run.function;
  handover.cwd = run.cwd;
  handover.args = {"/app.wasm"};
  handover.args.insert(handover.args.end(), run.args.begin(), run.args.end());
  handover.env = run.env;
  const std::string bytes = encode(handover);
  const uint32_t at = plan.text(bytes);
  init::Step& hand = plan.step(init::Op::kHandOver);
  hand.a = at;
  hand.n = bytes.size();
  hand.fd = artifact_at;
  hand.m = 1;
  plan.step(init::Op::kReady);
  if (run.late) run.late(plan);
  plan.step(init::Op::kCloseFds).n = 3;
  plan.step(init::Op::kHandOver);

  const std::string blob = plan.blob();
  TRY_ASSIGN(const Process process,
             make_clone(zygote, children,
                        {blob, fds, run.clone_flags, -1, run.pid_namespace_fd, theirs.get()}));
  theirs.reset();
  out_write.reset();
  err_write.reset();
  Outcome outcome;
  follow(ours.get(), &outcome);
  if (run.while_running) run.while_running(process);
  outcome.out = drain(out_read.get());
  outcome.err = drain(err_read.get());
  TRY_ASSIGN(const ExitStatus end, wait_for(process));
  children.remove(process.pid);
  outcome.code = end.code();
  return outcome;
}

}  // namespace amphora::wasm
