// SPDX-License-Identifier: Apache-2.0
// See content.h and content_protocol.h.
#include "wasm/content.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <charconv>
#include <cstddef>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "wasm/content_protocol.h"
#include "wasm/sha256.h"

namespace amphora::wasm {
namespace {

/// The helper gives up on containerd after a minute; a large layer may take some more.
constexpr int kAnswerMs = 180000;

Error decoded(const std::vector<std::string>& words) {
  int number = static_cast<int>(Errc::kInternal);
  if (words.size() == 3) {
    std::from_chars(words[1].data(), words[1].data() + words[1].size(), number);
    if (number >= 0 && number <= static_cast<int>(Errc::kInternal)) {
      return Error(static_cast<Errc>(number), words[2]);
    }
  }
  return Error(Errc::kInternal, "amphora-content gave an answer that cannot be read");
}

}  // namespace

Result<std::shared_ptr<ContentSession>> ContentSession::start(HostProgram& program,
                                                              const Containerd& containerd) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return fail_errno(errno, "make a socket pair");
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  const std::string args[] = {containerd.address, containerd.name_space};
  const int fds[] = {theirs.get()};
  auto process = [&] {
    const std::lock_guard lock(program.children().mutex());
    return program.start_locked(args, fds, -1);
  }();
  if (!process) return std::unexpected(std::move(process).error());
  const std::string where = containerd.address + '\0' + containerd.name_space;
  return std::shared_ptr<ContentSession>(
      new ContentSession(program, std::move(*process), std::move(ours),
                         to_hex(sha256(where.data(), where.size())).substr(0, 12)));
}

ContentSession::~ContentSession() {
  socket_.reset();
  // It ends at once when nobody asks any more; were it stuck in a call, nobody waits for it.
  sys::pidfd_send_signal(process_.pidfd.get(), SIGKILL);
  static_cast<void>(wait_for(process_));
  program_.children().remove(process_.pid);
}

Result<Received> ContentSession::ask(const std::string& message, int fd) {
  const std::lock_guard lock(mutex_);
  TRY(send_with_fds(socket_.get(), message, std::span(&fd, fd >= 0 ? 1 : 0)));
  struct pollfd poll_fd{socket_.get(), POLLIN, 0};
  int n = 0;
  do {
    n = ::poll(&poll_fd, 1, kAnswerMs);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return fail(Errc::kSystem, "amphora-content does not answer");
  TRY_ASSIGN(Received answer, receive_with_fds(socket_.get()));
  if (answer.data.empty()) return fail(Errc::kInternal, "amphora-content has ended");
  const auto words = unpack(answer.data);
  if (words.empty() || words[0] == kFailed) return std::unexpected(decoded(words));
  return answer;
}

Result<ContentSession::Found> ContentSession::open(const ImageQuery& query) {
  TRY_ASSIGN(
      Received answer,
      ask(pack({kOpen, query.container, query.image, query.entrypoint, query.layer_types}), -1));
  auto words = unpack(answer.data);
  Found found;
  if (words[0] == kAnswered && words.size() >= 4 && answer.fds.size() == 1) {
    found.head = std::move(answer.fds[0]);
    found.digest = std::move(words[1]);
    if (words[2] == kPlain) module_digest_ = found.digest.substr(found.digest.find(':') + 1);
    found.image = std::move(words[3]);
    for (size_t i = 4; i + 1 < words.size(); i += 2) {
      found.libraries.push_back({std::move(words[i]), std::move(words[i + 1]), UniqueFd()});
    }
  } else {
    found.why_none = words.size() > 1 ? std::move(words[1]) : "nothing is known of its image";
  }
  return found;
}

Result<UniqueFd> ContentSession::read_module() {
  TRY_ASSIGN(Received answer, ask(pack({kRead}), -1));
  if (answer.fds.size() == 1) return std::move(answer.fds[0]);
  return fail(Errc::kInternal, "amphora-content sent no module");
}

Result<UniqueFd> ContentSession::read_library(size_t index) {
  TRY_ASSIGN(Received answer, ask(pack({kRead, std::to_string(index)}), -1));
  if (answer.fds.size() == 1) return std::move(answer.fds[0]);
  return fail(Errc::kInternal, "amphora-content sent no library");
}

UniqueFd ContentSession::find(const std::string& digest) {
  auto answer = ask(pack({kFind, digest}), -1);
  return answer && !answer->fds.empty() ? std::move(answer->fds[0]) : UniqueFd();
}

Result<UniqueFd> ContentSession::keep(const std::string& key, const std::string& digest,
                                      int artifact) {
  TRY_ASSIGN(Received answer, ask(pack({kKeep, key, digest}), artifact));
  if (!answer.fds.empty()) return std::move(answer.fds[0]);
  return fail(Errc::kInternal, "containerd has lost the artifact that it was given");
}

}  // namespace amphora::wasm
