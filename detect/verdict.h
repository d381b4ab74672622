// SPDX-License-Identifier: Apache-2.0
// Verdict: what detection found out about a container's entrypoint, a value that travels from
// detect/ to the executors. Nobody decides again after it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::detect {

enum class Kind : uint8_t { kNative, kWasmModule, kWasmComponent, kWasmText };

/// "native", "wasm-module", "wasm-component", "wasm-text".
const char* to_string(Kind kind) noexcept;

/// Where a module came from that is no file, and where what is compiled from it is kept beside it, so that
/// both go together. For artifacts it vouches for nothing: who takes one must know its digest.
class ArtifactStore {
 public:
  virtual ~ArtifactStore() = default;
  /// SHA-256 of the module (64 digits); empty: not known before it is read.
  virtual std::string module_digest() const = 0;
  /// The module, which has that digest: a regular file that nobody changes any more.
  virtual Result<UniqueFd> read_module() = 0;
  /// The verdict's library with this index, checked like the module.
  virtual Result<UniqueFd> read_library(size_t index) = 0;
  /// Letters and digits that tell stores apart.
  virtual std::string name() const = 0;
  /// The artifact with this SHA-256 digest (64 digits), opened read-only; -1: not there.
  virtual UniqueFd find(const std::string& digest) = 0;
  virtual Result<UniqueFd> keep(const std::string& key, const std::string& digest,
                                int artifact) = 0;
};

/// A module or component beside the entrypoint's, for an entrypoint that imports from it (docs/images.md).
struct Library {
  std::string name;    ///< of the file, or the layer's title: "math.wasm"
  std::string digest;  ///< of a layer as it is stored; empty: `file` is asked
  UniqueFd file;       ///< regular, opened read-only; -1: artifacts->read_library()
};

struct Verdict {
  Kind kind = Kind::kNative;
  std::string path;      ///< where the entrypoint was found, inside the container; may be empty for
                         ///< native programs that were not found (exec decides)
  std::string function;  ///< wasm: export named after '#', empty for the default
  std::string reason;    ///< in words, for state, log and `amphora detect`
  std::string why_not;  ///< native by default (binfmt_misc may know it): why not wasm, why not wat;
                        ///< added to the error when exec then fails. Empty for a sure verdict
  UniqueFd
      module;  ///< wasm kinds: the file, regular, opened read-only; -1: artifacts->read_module()
  /// Of a module that is a layer of the image; else null.
  std::shared_ptr<ArtifactStore> artifacts = nullptr;
  std::vector<Library> libraries = {};
};

}  // namespace amphora::detect
