// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for cache keys and artifact digests, with the CPU's SHA extensions where they
// exist. Why not a library: libcrypto is 4 MB of relocations at each start, AF_ALG copies every byte
// through a socket; this is one page of code, tested with NIST's vectors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "executor/base/error.h"

namespace amphora::wasm {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  /// `portable` forces the code without SHA extensions; for tests.
  explicit Sha256(bool portable = false) noexcept;
  void update(const void* data, size_t size) noexcept;
  Digest finish() noexcept;

 private:
  using Blocks = void (*)(uint32_t* state, const uint8_t* data, size_t count);
  Blocks blocks_;
  uint32_t state_[8];
  uint64_t total_ = 0;
  uint8_t pending_[64];
  size_t held_ = 0;
};

Digest sha256(const void* data, size_t size) noexcept;
/// 64 lower-case digits.
std::string to_hex(const Digest& digest);
/// What to_hex has made.
Result<Digest> from_hex(std::string_view text);

}  // namespace amphora::wasm
