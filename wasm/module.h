// SPDX-License-Identifier: Apache-2.0
// A guest's module as bytes: hashed in place, and copied where it must not change any more. Never mapped
// here: the file is the guest's, and truncating it would kill who has it mapped.
#pragma once

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "wasm/sha256.h"

namespace amphora::wasm {

/// Larger modules are refused.
inline constexpr uint64_t kMaxModule = uint64_t{512} << 20;

Result<Digest> digest_module(int module);

struct FrozenModule {
  UniqueFd fd;  ///< a sealed memfd
  Digest digest;
};
/// A copy that stays, and the digest of exactly those bytes: what is compiled is what the key says,
/// whoever writes the file meanwhile.
Result<FrozenModule> freeze_module(int module);

}  // namespace amphora::wasm
