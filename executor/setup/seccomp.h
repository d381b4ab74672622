// SPDX-License-Identifier: Apache-2.0
// Seccomp profiles to BPF programs: oci::Seccomp in, an array of struct sock_filter out, made in
// the parent so that the child only installs it. libseccomp is seccomp_library's. Here
// belong the profile's rules and runc's additions to them (the ENOSYS stub); not here: when the
// filter is installed (make_plan) and what becomes of the listener (launch).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

struct SeccompProgram {
  std::string filters;  ///< struct sock_filter records, at most 4096; empty: nothing to install
  uint32_t flags = 0;   ///< SECCOMP_FILTER_FLAG_*, with NEW_LISTENER when `notify`
  bool notify = false;  ///< some rule asks a listener, so installing returns a descriptor
  std::vector<std::string> warnings;

  uint64_t count() const noexcept { return filters.size() / 8; }  ///< instructions
};

/// Compiles a profile. kInvalid names the member that is wrong, kUnsupported what this kernel or
/// libseccomp cannot do. A profile of Docker's size takes 0.15 ms, too little for a cache to pay.
Result<SeccompProgram> compile_seccomp(const oci::Seccomp& profile);

/// What the `features` document says about seccomp.
struct SeccompFeatures {
  std::vector<std::string> actions, operators, archs, known_flags, supported_flags;
  std::string libseccomp_version;  ///< "2.5.4"
};
SeccompFeatures seccomp_features();

}  // namespace amphora::setup
