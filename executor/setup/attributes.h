// SPDX-License-Identifier: Apache-2.0
// Process attributes that the spec gives as words and the kernel wants as numbers: resource limits,
// scheduler, I/O priority, personality, memory policy and CPU masks. Pure: checked here, made into
// the exact bytes of the system call, applied by the child's steps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

/// "RLIMIT_NOFILE" -> RLIMIT_NOFILE.
Result<int> rlimit_number(std::string_view type);

/// The bytes of a struct sched_attr (sched_setattr(2)).
Result<std::string> make_scheduler(const oci::Scheduler& scheduler);

/// The value for ioprio_set(2).
Result<uint64_t> make_io_priority(const oci::IoPriority& priority);

struct PersonalityValue {
  uint64_t value = 0;
  std::vector<std::string> warnings;  ///< flags, which no kernel interface here takes, are ignored
};
Result<PersonalityValue> make_personality(const oci::Personality& personality);

/// Arguments of set_mempolicy(2).
struct MemoryPolicyValue {
  uint64_t mode = 0;  ///< MPOL_* with MPOL_F_*
  std::string mask;   ///< whole unsigned longs; empty: no nodes
  uint64_t bits = 0;  ///< the call's `maxnode`, 0 without nodes
};
Result<MemoryPolicyValue> make_memory_policy(const oci::MemoryPolicy& policy);

/// A list such as "0-3,5" as a bit mask of whole unsigned longs, at least `least_bytes` long.
/// `noun` says in errors whose list it is ("process.execCPUAffinity.initial").
Result<std::string> make_mask(std::string_view list, std::string_view noun, size_t least_bytes = 0);
/// A mask for sched_setaffinity(2); more than 1024 CPUs are possible.
Result<std::string> make_cpu_mask(std::string_view list, std::string_view noun);
/// Every CPU that a kernel could have (runc resets init's mask, so that ours is not inherited).
std::string all_cpus_mask();

/// Words for the `features` document.
std::vector<std::string> known_memory_policy_modes();
std::vector<std::string> known_memory_policy_flags();

}  // namespace amphora::setup
