// SPDX-License-Identifier: Apache-2.0
// What the tests on real cgroups share: children that do one thing, and a cgroup that is cleaned up
// whatever happens.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "executor/cgroup/cgroup.h"

namespace amphora::cgroup::testing {

/// A forked child that runs `body` after `release` and exits with what it returns; killed and reaped
/// by the destructor.
class Child {
 public:
  explicit Child(std::function<int()> body);
  /// By clone3 into the cgroup directory `cgroup_fd`.
  Child(std::function<int()> body, int cgroup_fd);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const noexcept { return pid_; }
  void release();
  /// Waits for its end (at most 20 s): the exit code, 128 + signal, or -1.
  int wait();

 private:
  void start(const std::function<int()>& body, int cgroup_fd);
  pid_t pid_ = -1;
  int go_ = -1;
};

/// Runs `body` in a forked child at once; 0 is success. What it prints goes to our output.
int in_child(const std::function<int()>& body);

/// Sleeps for ever.
int sleeper();
/// Keeps 2 generations of children, each in a session of its own, and sleeps.
int fork_tree();
/// Touches memory until it is killed.
int greedy();

/// Counts in shared memory, as a sign of life.
struct Beat {
  Beat();
  ~Beat();
  volatile uint64_t* count;
  int run() const;           ///< in the child
  bool moves(int ms) const;  ///< within `ms`
};

std::string file(const std::string& path);  ///< trimmed content, or "error: ..."
std::string cgroups_of(pid_t pid);          ///< /proc/PID/cgroup
bool exists(const std::string& path);
bool eventually(const std::function<bool()>& check, int ms = 5000);
/// A path below the hierarchies that no other test has.
std::string unique_path();
/// The default container: everything denied but the runtime's own list.
oci::Linux default_linux(const std::string& path);

/// Kills and removes at the end of the test.
struct Guard {
  std::unique_ptr<Cgroup> cgroup;
  explicit Guard(std::unique_ptr<Cgroup> made) : cgroup(std::move(made)) {}
  Guard(Guard&&) = default;
  ~Guard();
  Cgroup* operator->() const { return cgroup.get(); }
};

}  // namespace amphora::cgroup::testing
