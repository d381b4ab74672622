// SPDX-License-Identifier: Apache-2.0
// What an artifact depends on: the module's bytes, the engine, and the libraries that are linked to it. The
// key of the cache is made here. Not here: whether there is a library at all (detect, content), and what
// linking is (the engine).
#pragma once

#include <string>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "wasm/compile_protocol.h"
#include "wasm/compiler.h"
#include "wasm/sha256.h"

namespace amphora::wasm {

/// Of a module alone. The engine's cache_key covers its flags, options and the CPU.
std::string key_of(const Identity& identity, const Digest& module);

/// Those of one verdict, which must outlive it.
class Libraries {
 public:
  /// Reads files, but no layer: the name that it has in the store says what its bytes are.
  static Result<Libraries> of(const detect::Verdict& verdict);
  /// From here on the key is that of the bytes that requests() hands out, whoever writes files meanwhile.
  Result<void> read();
  /// Of main linked with them.
  std::string key(const Identity& identity, const Digest& main) const;
  /// With descriptors that this object owns; empty before read().
  std::vector<CompileLibrary> requests() const;

 private:
  explicit Libraries(const detect::Verdict& verdict) : verdict_(&verdict) {}
  const detect::Verdict* verdict_;
  std::vector<std::string> digests_;  ///< of files 64 digits, of layers as the store has it
  std::vector<UniqueFd> frozen_;
};

}  // namespace amphora::wasm
