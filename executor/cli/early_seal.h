// SPDX-License-Identifier: Apache-2.0
// What the program's entry point found out before libc was there. See early_seal.cc. Not here:
// sealing itself where that is left to main (base/sys.h).
#pragma once

namespace amphora::cli {

/// Set when this image already lies on a read-only mount. False says nothing.
[[gnu::visibility("hidden")]] extern bool sealed_at_entry;

}  // namespace amphora::cli
