// SPDX-License-Identifier: Apache-2.0
// The server's birth. See spawn.h.
#include "shim/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/sys.h"
#include "shim/bootstrap.h"
#include "shim/flags.h"

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_CREATE 1
#endif

namespace amphora::shim {
namespace {

// PR_SCHED_CORE_SCOPE_PROCESS_GROUP, which older headers lack.
constexpr unsigned long kSchedCoreProcessGroup = 2;
constexpr int kMaxOomScore = 1000;

/// containerd's own value plus one, so that under pressure a shim goes before containerd does; a
/// child inherits ours. Refusals are an unprivileged containerd's, and harmless.
void raise_oom_score() {
  const auto text =
      read_file_at(AT_FDCWD, "/proc/" + std::to_string(::getppid()) + "/oom_score_adj");
  int score = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), score).ec != std::errc()) {
    return;
  }
  if (score < kMaxOomScore) ++score;
  (void)write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", std::to_string(score));
}

/// Only what the server or what it starts can use: the rest of containerd's environment would cost
/// memory in every shim and reach hooks' parents for no reason.
std::vector<char*> environment(std::string& bin_dir) {
  static constexpr std::string_view kKept[] = {
      "PATH=",         "HOME=",          "TMPDIR=",       "XDG_RUNTIME_DIR=", "AMPHORA_",
      "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=", "TSAN_OPTIONS=",    "LD_LIBRARY_PATH=",
      "DBUS_",         "NOTIFY_SOCKET="};
  std::vector<char*> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    for (const auto prefix : kKept) {
      if (text.starts_with(prefix)) kept.push_back(*entry);
    }
  }
  // The server runs from a sealed copy and cannot tell any more where its siblings are installed.
  if (!bin_dir.empty() && ::getenv("AMPHORA_BIN_DIR") == nullptr) {
    bin_dir.insert(0, "AMPHORA_BIN_DIR=");
    kept.push_back(bin_dir.data());
  }
  kept.push_back(nullptr);
  return kept;
}

std::string own_directory() {
  char link[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", link, sizeof(link));
  if (size <= 0 || link[0] != '/') return "";
  return std::string(path::dir_name(std::string_view(link, static_cast<size_t>(size))));
}

/// Owns posix_spawn's two attribute objects.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
      ::posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", O_RDWR, 0);
    }
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void pass(int from, int to) { ::posix_spawn_file_actions_adddup2(&actions_, from, to); }

  Result<pid_t> spawn(const char* path, std::vector<char*>& argv, std::vector<char*>& env) {
    pid_t pid = 0;
    const int err = ::posix_spawn(&pid, path, &actions_, &attributes_, argv.data(), env.data());
    if (err != 0) return fail_errno(err, std::string("start ") + path);
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

/// runc's option shim_cgroup: the group exists, in whatever hierarchies have it.
Result<void> enter_cgroup(const std::string& path, pid_t pid) {
  bool entered = false;
  const auto enter = [&](const std::string& mount) {
    const std::string procs = mount + "/" + path + "/cgroup.procs";
    entered |= write_file_at(AT_FDCWD, procs, std::to_string(pid)).has_value();
  };
  enter("/sys/fs/cgroup");
  DIR* const mounts = ::opendir("/sys/fs/cgroup");
  if (mounts != nullptr) {
    while (const dirent* const mount = ::readdir(mounts)) {
      if (mount->d_name[0] != '.') enter(std::string("/sys/fs/cgroup/") + mount->d_name);
    }
    ::closedir(mounts);
  }
  if (!entered) return fail(Errc::kNotFound, "shim_cgroup " + path + " does not exist");
  return {};
}

}  // namespace

Result<void> spawn_server(const Flags& flags, const StartInput& input, const std::string& socket,
                          int listener) {
  raise_oom_score();
  if (::getenv("SCHED_CORE") != nullptr &&
      ::prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, kSchedCoreProcessGroup, 0) != 0) {
    return fail_errno(errno, "create a scheduling core");
  }
  // Without a sealed copy a container could write to the shim through /proc/PID/exe.
  TRY_ASSIGN(const UniqueFd executable, sys::seal_executable());
  const std::string program = "/proc/self/fd/" + std::to_string(executable.get());

  std::vector<std::string> words = {"containerd-shim-amphora-v1",
                                    "-namespace",
                                    flags.name_space,
                                    "-id",
                                    flags.id,
                                    "-address",
                                    input.grpc_address,
                                    "-publish-binary",
                                    input.publish_binary,
                                    "-ttrpc-address",
                                    input.ttrpc_address,
                                    "-socket",
                                    socket};
  if (input.debug) words.emplace_back("-debug");
  const std::string& engine = input.options.engine.empty() ? flags.engine : input.options.engine;
  if (!engine.empty()) words.insert(words.end(), {"-engine", engine});
  words.emplace_back("serve");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string bin_dir = own_directory();
  auto env = environment(bin_dir);

  SpawnPlan plan;
  // dup2 onto itself would leave close-on-exec set, hence a copy that cannot be number 3.
  const UniqueFd copy(::fcntl(listener, F_DUPFD_CLOEXEC, 10));
  if (!copy) return fail_errno(errno, "duplicate the listening socket");
  plan.pass(copy.get(), kListenerFd);
  TRY_ASSIGN(const pid_t pid, plan.spawn(program.c_str(), argv, env));
  if (!input.options.shim_cgroup.empty()) {
    if (auto entered = enter_cgroup(input.options.shim_cgroup, pid); !entered) {
      ::kill(pid, SIGKILL);
      return std::unexpected(std::move(entered).error());
    }
  }
  return {};
}

}  // namespace amphora::shim
