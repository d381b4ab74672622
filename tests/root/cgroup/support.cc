// SPDX-License-Identifier: Apache-2.0
// See support.h.
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "executor/cgroup/files.h"

namespace amphora::cgroup::testing {

Child::Child(std::function<int()> body) { start(body, -1); }
Child::Child(std::function<int()> body, int cgroup_fd) { start(body, cgroup_fd); }

void Child::start(const std::function<int()>& body, int cgroup_fd) {
  int go[2];
  if (::pipe2(go, O_CLOEXEC) != 0) ::abort();
  if (cgroup_fd >= 0) {
    struct clone_args args{};
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = static_cast<uint64_t>(cgroup_fd);
    pid_ = sys::clone3(args);
  } else {
    pid_ = ::fork();
  }
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(go[1]);
    char byte = 0;
    const bool released = ::read(go[0], &byte, 1) == 1;
    ::_exit(released ? body() : 99);
  }
  EXPECT_GT(pid_, 0) << ::strerror(errno);
  ::close(go[0]);
  go_ = go[1];
}

Child::~Child() {
  if (go_ >= 0) ::close(go_);
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void Child::release() { EXPECT_EQ(::write(go_, "x", 1), 1); }

int Child::wait() {
  int status = 0;
  pid_t done = 0;
  eventually([&] { return (done = ::waitpid(pid_, &status, WNOHANG)) != 0; }, 20000);
  if (done != pid_) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int in_child(const std::function<int()>& body) {
  Child child(body);
  child.release();
  return child.wait();
}

int sleeper() {
  for (;;) ::pause();
}

int fork_tree() {
  for (int n = 0; n < 4; ++n) {
    if (::fork() != 0) continue;
    ::setsid();
    for (int m = 0; m < 3; ++m) {
      if (::fork() == 0) sleeper();
    }
    sleeper();
  }
  return sleeper();
}

int greedy() {
  constexpr size_t kStep = size_t{1} << 20;
  for (int n = 0; n < 1024; ++n) {
    void* block =
        ::mmap(nullptr, kStep, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return 98;
    ::memset(block, 1, kStep);
  }
  return 97;
}

Beat::Beat()
    : count(static_cast<volatile uint64_t*>(
          ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
Beat::~Beat() { ::munmap(const_cast<uint64_t*>(count), 4096); }

int Beat::run() const {
  for (;;) {
    *count = *count + 1;
    sleep_ms(1);
  }
}

bool Beat::moves(int ms) const {
  const uint64_t before = *count;
  return eventually([&] { return *count != before; }, ms);
}

std::string file(const std::string& path) {
  const size_t slash = path.rfind('/');
  auto text = read_list(path.substr(0, slash), path.substr(slash + 1));
  return text ? std::string(trim(*text)) : "error: " + text.error().what();
}

std::string cgroups_of(pid_t pid) {
  return file("/proc/" + std::to_string(pid) + "/cgroup") + "\n";
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool eventually(const std::function<bool()>& check, int ms) {
  const int64_t deadline = now_ms() + ms;
  for (;;) {
    if (check()) return true;
    if (now_ms() >= deadline) return false;
    sleep_ms(2);
  }
}

std::string unique_path() {
  static int number = 0;
  return "/amphora-test-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

oci::Linux default_linux(const std::string& path) {
  oci::Linux out;
  out.cgroups_path = path;
  out.resources.devices.push_back({false, 'a', {}, {}, "rwm"});
  return out;
}

Guard::~Guard() {
  if (!cgroup) return;
  EXPECT_TRUE(cgroup->kill_all(SIGKILL));
  // Zombies leave the cgroup by themselves; whose children they are reaps them.
  const auto removed = cgroup->remove();
  EXPECT_TRUE(removed) << removed.error().what();
}

}  // namespace amphora::cgroup::testing
