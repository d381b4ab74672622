// SPDX-License-Identifier: Apache-2.0
// What libseccomp is asked: the numbers of syscalls and architectures, and programs for the profiles
// that our own generator (seccomp_bpf) leaves to it. seccomp_library.cc is the only user of
// libseccomp.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/setup/seccomp_bpf.h"

namespace amphora::setup {

/// A profile's rules in the kernel's terms, names apart: a syscall that no architecture has is left
/// out later, as profiles name those of other times on purpose.
struct SeccompRule {
  const std::vector<std::string>* names = nullptr;  ///< the profile's
  uint32_t action = 0;                              ///< SECCOMP_RET_* with its data
  bool always = false;                              ///< without conditions
  BpfAlternatives alternatives;                     ///< else any of them
};

struct SeccompRules {
  uint32_t default_action = 0;
  /// Numbers above the highest known one of an architecture get ENOSYS instead of the default.
  bool enosys = false;
  /// libseccomp's tokens, the native one first and always there.
  std::vector<uint32_t> archs;
  std::vector<SeccompRule> rules;
};

uint32_t native_arch() noexcept;
/// libseccomp's token ("x86_64"); 0: it does not know the architecture.
uint32_t find_arch(const char* name) noexcept;
/// Whether a profile of this machine may name it: one of the other endianness cannot be filtered here.
bool fits_native(uint32_t arch) noexcept;
std::string libseccomp_version();

/// The program as libseccomp makes it, with our stub for unknown syscalls in front.
Result<std::vector<sock_filter>> make_library_program(const SeccompRules& rules);
/// Our own, smaller and made in a fraction of the time. Empty when the rules are not for it: two
/// actions for one syscall, whose order is libseccomp's to know, or an architecture with ways of its
/// own.
std::vector<sock_filter> make_range_program(const SeccompRules& rules);

}  // namespace amphora::setup
