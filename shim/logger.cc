// SPDX-License-Identifier: Apache-2.0
// Logging programs. See logger.h.
#include "shim/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "shim/loop.h"

namespace amphora::shim {
namespace {

constexpr int kReadyTimeoutMs = 10000;
constexpr std::chrono::seconds kStopTimeout{12};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
        hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += plus_is_space && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  // Above the numbers that the program is given: dup2 of one must not close another.
  for (UniqueFd* const end : {&pipe.read, &pipe.write}) {
    UniqueFd high(::fcntl(end->get(), F_DUPFD_CLOEXEC, 10));
    if (!high) return fail_errno(errno, "pipe");
    *end = std::move(high);
  }
  return pipe;
}

Result<Process> spawn(std::vector<std::string>& words, std::vector<std::string>& env, int out,
                      int err, int ready, Children& children) {
  std::vector<char*> argv, envp;
  for (auto& word : words) argv.push_back(word.data());
  for (auto& entry : env) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out, 3);
  ::posix_spawn_file_actions_adddup2(&actions, err, 4);
  ::posix_spawn_file_actions_adddup2(&actions, ready, 5);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t all, none;
  ::sigfillset(&all);
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  Process process;
  int failure = 0;
  {
    // With the mutex held nobody reaps it before its pidfd exists.
    const std::lock_guard lock(children.mutex());
    failure = ::posix_spawn(&process.pid, argv[0], &actions, &attributes, argv.data(), envp.data());
    if (failure == 0) process.pidfd.reset(sys::pidfd_open(process.pid, 0));
  }
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failure != 0) return fail_errno(failure, "start logger " + words[0]);
  return process;
}

/// A byte, or for the first version of the protocol the closing of the pipe, means ready.
Result<void> wait_ready(int fd, const std::string& path, bool byte_required) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&wait, 1, kReadyTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return fail(Errc::kSystem, "logger " + path + " is not ready after 10 s");
  char byte = 0;
  const ssize_t got = ::read(fd, &byte, 1);
  if (got < 0) return fail_errno(errno, "read from logger " + path);
  if (got == 0 && byte_required) {
    return fail(Errc::kSystem, "logger " + path + " ended without being ready");
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> logger_words(const std::string& uri) {
  const size_t scheme_end = uri.find("://");
  if (scheme_end == std::string::npos) return fail(Errc::kInvalid, uri + ": no scheme");
  std::string_view rest = std::string_view(uri).substr(scheme_end + 3);
  const size_t question = rest.find('?');
  std::vector<std::string> words = {percent_decoded(rest.substr(0, question), false)};
  if (!words[0].starts_with('/')) {
    return fail(Errc::kInvalid, uri + ": the logger's path must be absolute");
  }
  if (question == std::string_view::npos) return words;
  rest.remove_prefix(question + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    const std::string key = percent_decoded(pair.substr(0, equals), true);
    bool seen = false;  // only the first value of a key counts
    for (size_t i = 1; i < words.size(); i += 2) seen |= words[i] == key;
    if (seen) continue;
    words.push_back(key);
    words.push_back(
        equals == std::string_view::npos ? "" : percent_decoded(pair.substr(equals + 1), true));
  }
  return words;
}

Result<LoggerPipes> start_logger(const std::string& uri, const std::string& id,
                                 const std::string& name_space, Children& children) {
  TRY_ASSIGN(auto words, logger_words(uri));
  TRY_ASSIGN(Pipe out, make_pipe());
  TRY_ASSIGN(Pipe err, make_pipe());
  TRY_ASSIGN(Pipe ready, make_pipe());
  std::vector<std::string> env = {"CONTAINER_ID=" + id, "CONTAINER_NAMESPACE=" + name_space};
  TRY_ASSIGN(Process process,
             spawn(words, env, out.read.get(), err.read.get(), ready.write.get(), children));
  ready.write.reset();
  if (auto waited = wait_ready(ready.read.get(), words[0], uri.starts_with("binary-v2:"));
      !waited) {
    (void)send_signal(process, SIGKILL);
    return std::unexpected(std::move(waited).error());
  }
  return LoggerPipes{std::move(out.write), std::move(err.write), std::move(process)};
}

void stop_logger(Loop& loop, Process process) {
  if (!process.pidfd || !send_signal(process, SIGTERM)) return;  // it has ended by itself
  auto timer = std::make_shared<asio::steady_timer>(loop, kStopTimeout);
  timer->async_wait([timer, process = std::move(process)](boost::system::error_code) {
    (void)send_signal(process, SIGKILL);
  });
}

}  // namespace amphora::shim
