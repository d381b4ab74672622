// SPDX-License-Identifier: Apache-2.0
// See client.h.
#include "executor/criu/client.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/criu/wire.h"

namespace amphora::criu {
namespace {

constexpr int kWorkerSocket = 3;
constexpr size_t kMessageMax = size_t{10} * 4096;  // criu's own bound
constexpr uint32_t kNotifyRequest = 6;

/// Fields of criu_req and of criu_resp.
enum RequestField : uint32_t { kType = 1, kOptions = 2, kNotifySuccess = 3 };
enum AnswerField : uint32_t { kSuccess = 2, kNotified = 5, kErrno = 7, kErrorText = 9 };

Result<std::string> find_criu() {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr && *path != '\0' ? path : "/usr/sbin:/usr/bin:/sbin:/bin";
  while (!rest.empty()) {
    const std::string_view directory = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(directory.size() + 1, rest.size()));
    // Never by a name that depends on where we stand.
    if (!directory.starts_with('/')) continue;
    std::string file = std::string(directory) + "/criu";
    struct stat st{};
    if (::stat(file.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(file.c_str(), X_OK) == 0)
      return file;
  }
  return fail(Errc::kUnsupported,
              "criu is not installed (no criu in PATH): checkpoint and restore need it");
}

/// SAFETY: in a clone of a threaded process: system calls only.
[[noreturn]] void become_worker(const char* file, int socket, const char* root,
                                const std::vector<int>& inherited, int* spare) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  char name[] = "criu", verb[] = "swrk", number[] = "3";
  char* const argv[] = {name, verb, number, nullptr};
  if (*root != '\0' && (::unshare(CLONE_NEWNS) != 0 ||
                        ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 ||
                        ::mount(root, root, nullptr, MS_BIND | MS_REC, nullptr) != 0)) {
    ::_exit(126);
  }
  // Out of the way of the numbers they are to get.
  for (size_t i = 0; i < inherited.size(); ++i) {
    spare[i] = ::fcntl(inherited[i], F_DUPFD_CLOEXEC, 256);
    if (spare[i] < 0) ::_exit(126);
  }
  const int own = ::fcntl(socket, F_DUPFD_CLOEXEC, 256);
  if (own < 0 || ::dup2(own, kWorkerSocket) < 0) ::_exit(126);
  for (size_t i = 0; i < inherited.size(); ++i) {
    if (::dup2(spare[i], Client::kFirstInherited + static_cast<int>(i)) < 0) ::_exit(126);
  }
  const auto first =
      static_cast<unsigned>(Client::kFirstInherited) + static_cast<unsigned>(inherited.size());
  sys::close_range(first, ~0U, 0);
  ::execv(file, argv);
  ::_exit(127);
}

}  // namespace

Result<CgroupsMode> parse_cgroups_mode(std::string_view word) {
  if (word.empty() || word == "ignore") return CgroupsMode::kIgnore;
  if (word == "soft") return CgroupsMode::kSoft;
  if (word == "full") return CgroupsMode::kFull;
  if (word == "strict") return CgroupsMode::kStrict;
  return fail(Errc::kInvalid, std::string(word) +
                                  ": invalid manage-cgroups-mode value "
                                  "(soft, full, strict or ignore)");
}

Result<uint64_t> parse_empty_namespaces(const std::vector<std::string>& names) {
  uint64_t flags = 0;
  for (const std::string& name : names) {
    if (name != "network") {
      return fail(Errc::kInvalid,
                  "criu can leave \"network\" alone (empty namespaces), not \"" + name + "\"");
    }
    flags |= CLONE_NEWNET;
  }
  return flags;
}

struct Client::Answer {
  bool success = false;
  int err = 0;
  std::string text;
  std::optional<Notification> notification;
};

Result<Client> Client::start(const Place& place, Children& children) {
  TRY_ASSIGN(const std::string file, find_criu());
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return fail_errno(errno, "make criu's socket");
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  int pidfd = -1;
  struct clone_args args{};
  args.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  std::vector<int> spare(place.inherited.size());
  const std::lock_guard lock(children.mutex());
  const pid_t pid = sys::clone3(args);
  if (pid < 0) return fail_errno(errno, "start " + file);
  if (pid == 0) {
    become_worker(file.c_str(), theirs.get(), place.root.c_str(), place.inherited, spare.data());
  }
  children.add_locked(pid);
  return Client(std::move(ours), Process{pid, UniqueFd(pidfd), 0}, children);
}

/// A worker ends with its socket.
Client::~Client() {
  if (!process_.pidfd) return;
  socket_.reset();
  static_cast<void>(wait_for(process_));
  children_->remove(process_.pid);
}

namespace {

Notification notification_of(std::string_view message) {
  Notification told;
  Reader reader(message);
  while (const auto part = reader.next()) {
    if (part->number == 1) told.script = part->text;
    if (part->number == 2) told.pid = static_cast<pid_t>(part->value);
  }
  return told;
}

}  // namespace

Result<Client::Answer> Client::receive() {
  TRY_ASSIGN(Received received, receive_with_fds(socket_.get(), kMessageMax));
  if (received.data.empty()) {
    return fail(Errc::kSystem, "criu ended without an answer (is it allowed to make namespaces?)");
  }
  Answer answer;
  Reader reader(received.data);
  while (const auto field = reader.next()) {
    switch (field->number) {
      case kSuccess:
        answer.success = field->value != 0;
        break;
      case kErrno:
        answer.err = static_cast<int>(field->value);
        break;
      case kErrorText:
        // One line, as it goes into one.
        answer.text = field->text.substr(0, field->text.find('\n'));
        break;
      case kNotified:
        answer.notification = notification_of(field->text);
        break;
      default:
        break;
    }
  }
  if (reader.is_broken()) return fail(Errc::kInternal, "criu's answer cannot be read");
  if (answer.notification && !received.fds.empty()) {
    answer.notification->fd = std::move(received.fds.front());
  }
  return answer;
}

Result<void> Client::call(Request request, const Writer& options,
                          const OnNotification& on_notification) {
  Writer message;
  message.number(kType, static_cast<uint64_t>(request)).message(kOptions, options);
  TRY(send_with_fds(socket_.get(), message.bytes(), {}));
  Result<void> refused;
  for (;;) {
    TRY_ASSIGN(Answer answer, receive());
    if (answer.notification) {
      if (on_notification && refused) refused = on_notification(*answer.notification);
      Writer reply;
      reply.number(kType, kNotifyRequest).number(kNotifySuccess, refused ? 1 : 0);
      TRY(send_with_fds(socket_.get(), reply.bytes(), {}));
      continue;
    }
    if (!refused) return refused;
    if (answer.success) return {};
    std::string text = answer.text.empty() ? "criu failed" : "criu failed: " + answer.text;
    if (answer.err != 0) return std::unexpected(Error::from_errno(answer.err, text));
    return fail(Errc::kSystem, std::move(text));
  }
}

}  // namespace amphora::criu
