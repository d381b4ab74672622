// SPDX-License-Identifier: Apache-2.0
// Process attributes from the spec's words to the kernel's numbers.
#include "executor/setup/attributes.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::setup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

template <class T>
std::string error_of(const Result<T>& result) {
  if (result) return "no error";
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
  return result.error().what();
}

template <class T>
T at(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// The members of a mask, for reading.
std::vector<unsigned> members(const std::string& mask) {
  std::vector<unsigned> result;
  for (unsigned n = 0; n < mask.size() * 8; ++n) {
    if ((static_cast<unsigned char>(mask[n / 8]) >> (n % 8) & 1) != 0) result.push_back(n);
  }
  return result;
}

TEST(Attributes, RlimitNames) {
  EXPECT_EQ(rlimit_number("RLIMIT_NOFILE").value(), RLIMIT_NOFILE);
  EXPECT_EQ(rlimit_number("RLIMIT_RTTIME").value(), RLIMIT_RTTIME);
  for (const char* name :
       {"RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS",
        "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NPROC", "RLIMIT_RSS",
        "RLIMIT_RTPRIO", "RLIMIT_SIGPENDING", "RLIMIT_STACK"}) {
    EXPECT_TRUE(rlimit_number(name)) << name;
  }
  EXPECT_EQ(error_of(rlimit_number("NOFILE")), "invalid rlimit type: \"NOFILE\"");
  EXPECT_EQ(error_of(rlimit_number("")), "invalid rlimit type: \"\"");
}

TEST(Attributes, SchedulerBytes) {
  const auto bytes = make_scheduler({.policy = "SCHED_DEADLINE",
                                     .flags = {"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"},
                                     .runtime = 1000000,
                                     .deadline = 2000000,
                                     .period = 3000000});
  ASSERT_TRUE(bytes) << bytes.error().what();
  ASSERT_EQ(bytes->size(), 48U);
  EXPECT_EQ(at<uint32_t>(*bytes, 0), 48U);
  EXPECT_EQ(at<uint32_t>(*bytes, 4), 6U);
  EXPECT_EQ(at<uint64_t>(*bytes, 8), 5U);
  EXPECT_EQ(at<uint64_t>(*bytes, 24), 1000000U);
  EXPECT_EQ(at<uint64_t>(*bytes, 32), 2000000U);
  EXPECT_EQ(at<uint64_t>(*bytes, 40), 3000000U);
  const auto fifo = make_scheduler({.policy = "SCHED_FIFO", .priority = 42});
  ASSERT_TRUE(fifo);
  EXPECT_EQ(at<uint32_t>(*fifo, 4), 1U);
  EXPECT_EQ(at<uint32_t>(*fifo, 20), 42U);
  EXPECT_EQ(at<int32_t>(make_scheduler({.policy = "SCHED_BATCH", .nice = -20}).value(), 16), -20);
}

TEST(Attributes, TheKernelTakesTheSchedulerBytes) {
  const auto bytes = make_scheduler({.policy = "SCHED_BATCH", .nice = 19});
  ASSERT_TRUE(bytes);
  // In a child: a process without privilege cannot take a nice value back.
  const pid_t pid = fork();
  if (pid == 0) {
    const long set = syscall(SYS_sched_setattr, 0, bytes->data(), 0);
    _exit(set == 0 && sched_getscheduler(0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == 19
              ? 0
              : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(Attributes, SchedulerRules) {
  EXPECT_EQ(error_of(make_scheduler({})), "process.scheduler.policy: missing");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_SLOW"})),
            "process.scheduler.policy: \"SCHED_SLOW\" is not known");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_OTHER", .nice = 20})),
            "process.scheduler.nice: 20 is not within -20 to 19");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_BATCH", .nice = -21})),
            "process.scheduler.nice: -21 is not within -20 to 19");
  EXPECT_TRUE(make_scheduler({.policy = "SCHED_RR", .nice = 100, .priority = 1}));
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_BATCH", .priority = 3})),
            "process.scheduler.priority: 3 with SCHED_BATCH, but only SCHED_FIFO and SCHED_RR take "
            "one");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_RR", .priority = -1})),
            "process.scheduler.priority: -1 is negative");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_FIFO", .period = 1})),
            "process.scheduler: runtime, deadline and period with SCHED_FIFO, but only "
            "SCHED_DEADLINE takes them");
  EXPECT_EQ(error_of(make_scheduler({.policy = "SCHED_IDLE", .flags = {"SCHED_FLAG_X"}})),
            "process.scheduler.flags: \"SCHED_FLAG_X\" is not known");
}

TEST(Attributes, IoPriority) {
  EXPECT_EQ(make_io_priority({"IOPRIO_CLASS_RT", 0}).value(), 1U << 13);
  EXPECT_EQ(make_io_priority({"IOPRIO_CLASS_BE", 7}).value(), (2U << 13) | 7);
  EXPECT_EQ(make_io_priority({"IOPRIO_CLASS_IDLE", 4}).value(), (3U << 13) | 4);
  EXPECT_EQ(error_of(make_io_priority({"IOPRIO_CLASS_BE", 8})),
            "process.ioPriority.priority: 8 is not within 0 to 7");
  EXPECT_EQ(error_of(make_io_priority({"IOPRIO_CLASS_BE", -1})),
            "process.ioPriority.priority: -1 is not within 0 to 7");
  EXPECT_EQ(error_of(make_io_priority({"IOPRIO_CLASS_WOW", 3})),
            "process.ioPriority.class: \"IOPRIO_CLASS_WOW\" is not known");
}

TEST(Attributes, Personality) {
  EXPECT_EQ(make_personality({"LINUX", {}})->value, 0U);
  EXPECT_EQ(make_personality({"LINUX32", {}})->value, 8U);
  EXPECT_THAT(make_personality({"LINUX", {}})->warnings, IsEmpty());
  EXPECT_THAT(make_personality({"LINUX32", {"A", "B"}})->warnings,
              ElementsAre("ignoring unsupported personality flags: [A B]"));
  EXPECT_EQ(error_of(make_personality({"BSD", {}})),
            "linux.personality.domain: \"BSD\" is not known");
}

TEST(Attributes, MemoryPolicy) {
  const auto bind = make_memory_policy({"MPOL_BIND", "0,2-3", {"MPOL_F_STATIC_NODES"}});
  ASSERT_TRUE(bind) << bind.error().what();
  EXPECT_EQ(bind->mode, 2U | (1U << 15));
  EXPECT_THAT(members(bind->mask), ElementsAre(0, 2, 3));
  EXPECT_EQ(bind->bits, 65U);
  EXPECT_EQ(make_memory_policy({"MPOL_WEIGHTED_INTERLEAVE", "0", {}})->mode, 6U);
  for (const char* mode : {"MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"}) {
    const auto policy = make_memory_policy({mode, "", {}});
    ASSERT_TRUE(policy) << mode;
    EXPECT_EQ(policy->bits, 0U) << mode;
    EXPECT_EQ(policy->mask, "") << mode;
  }
}

TEST(Attributes, TheKernelTakesTheMemoryPolicy) {
  const auto policy = make_memory_policy({"MPOL_BIND", "0", {}});
  ASSERT_TRUE(policy);
  const pid_t pid = fork();
  if (pid == 0) {
    if (syscall(SYS_set_mempolicy, policy->mode, policy->mask.data(), policy->bits) != 0) {
      _exit(errno == ENOSYS || errno == EPERM ? 77 : 1);
    }
    int mode = -1;
    _exit(syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0 && mode == 2 ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no set_mempolicy here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Attributes, MemoryPolicyRules) {
  EXPECT_EQ(error_of(make_memory_policy({"MPOL_X", "0", {}})),
            "linux.memoryPolicy: invalid memory policy mode \"MPOL_X\"");
  EXPECT_EQ(error_of(make_memory_policy({"MPOL_BIND", "", {}})),
            "linux.memoryPolicy.nodes: MPOL_BIND needs at least one");
  EXPECT_EQ(error_of(make_memory_policy({"MPOL_LOCAL", "0", {}})),
            "linux.memoryPolicy: MPOL_LOCAL mode requires 0 nodes but got 1");
  EXPECT_EQ(error_of(make_memory_policy({"MPOL_BIND", "0", {"MPOL_F_X"}})),
            "linux.memoryPolicy: invalid memory policy flag \"MPOL_F_X\"");
  EXPECT_EQ(error_of(make_memory_policy({"MPOL_BIND", "0-", {}})),
            "linux.memoryPolicy.nodes: invalid memory policy node: \"0-\": \"0-\" is no number or "
            "range up to 65536");
}

TEST(Attributes, Masks) {
  EXPECT_THAT(members(make_mask("0-3,5", "m").value()), ElementsAre(0, 1, 2, 3, 5));
  EXPECT_THAT(members(make_mask("    , 1   , 3  ,  5-7,    ", "m").value()),
              ElementsAre(1, 3, 5, 6, 7));
  EXPECT_THAT(members(make_mask("63-64", "m").value()), ElementsAre(63, 64));
  EXPECT_THAT(members(make_mask("1024,8191", "m").value()), ElementsAre(1024, 8191));
  EXPECT_EQ(make_mask("0", "m")->size(), 8U);
  EXPECT_EQ(make_mask("65536", "m")->size(), 8200U);
  EXPECT_EQ(make_mask("0", "m", 9)->size(), 16U) << "whole words";
}

TEST(Attributes, BadListsNameThePart) {
  for (const char* list : {"-", "1-", "-3", "54-53", "1 - 2", "65537", "0-65537", "a", "1.5", "+1",
                           "0x1", "99999999999999999999"}) {
    EXPECT_EQ(error_of(make_mask(list, "process.execCPUAffinity.initial")),
              std::string("process.execCPUAffinity.initial: \"") + list + "\": \"" + list +
                  "\" is no number or range up to 65536");
  }
  EXPECT_THAT(error_of(make_mask("0,x,2", "m")), HasSubstr("\"0,x,2\": \"x\" is no number"));
  EXPECT_EQ(error_of(make_mask(",", "m")), "m: \",\" has no members");
  EXPECT_EQ(error_of(make_mask("", "m")), "m: \"\" has no members");
  EXPECT_EQ(error_of(make_mask(" ", "m")), "m: \" \" has no members");
}

TEST(Attributes, TheKernelTakesCpuMasks) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  // Beyond 1024 CPUs, and with a member that no machine has: the kernel cuts it off.
  const auto one = make_cpu_mask(std::to_string(first) + ",5000", "m");
  ASSERT_TRUE(one);
  const std::string all = all_cpus_mask();
  const pid_t pid = fork();
  if (pid == 0) {
    if (syscall(SYS_sched_setaffinity, 0, one->size(), one->data()) != 0) _exit(1);
    cpu_set_t now;
    if (sched_getaffinity(0, sizeof now, &now) != 0 || CPU_COUNT(&now) != 1) _exit(2);
    if (syscall(SYS_sched_setaffinity, 0, all.size(), all.data()) != 0) _exit(3);
    if (sched_getaffinity(0, sizeof now, &now) != 0) _exit(4);
    _exit(CPU_COUNT(&now) >= CPU_COUNT(&before) ? 0 : 5);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(Attributes, KnownMemoryPolicies) {
  EXPECT_THAT(known_memory_policy_modes(),
              ElementsAre("MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL",
                          "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"));
  EXPECT_THAT(known_memory_policy_flags(),
              ElementsAre("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"));
}

}  // namespace
}  // namespace amphora::setup
