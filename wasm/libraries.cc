// SPDX-License-Identifier: Apache-2.0
// See libraries.h.
#include "wasm/libraries.h"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "wasm/compile_protocol.h"
#include "wasm/compiler.h"
#include "wasm/module.h"
#include "wasm/sha256.h"

namespace amphora::wasm {
namespace {

void add_identity(Sha256& hash, const Identity& identity) {
  hash.update(identity.engine, sizeof identity.engine);
  hash.update(identity.version, sizeof identity.version);
  hash.update(&identity.cache_key, sizeof identity.cache_key);
}

}  // namespace

std::string key_of(const Identity& identity, const Digest& module) {
  Sha256 hash;
  hash.update(module.data(), module.size());
  add_identity(hash, identity);
  return to_hex(hash.finish());
}

Result<Libraries> Libraries::of(const detect::Verdict& verdict) {
  Libraries out(verdict);
  for (const detect::Library& library : verdict.libraries) {
    std::string digest = library.digest;
    if (digest.empty()) {
      TRY_ASSIGN(const Digest bytes, digest_module(library.file.get()));
      digest = to_hex(bytes);
    }
    out.digests_.push_back(std::move(digest));
  }
  return out;
}

Result<void> Libraries::read() {
  for (size_t i = 0; i < verdict_->libraries.size(); ++i) {
    const detect::Library& library = verdict_->libraries[i];
    UniqueFd layer;
    if (!library.file) {
      TRY_ASSIGN(layer, verdict_->artifacts->read_library(i));
    }
    TRY_ASSIGN(FrozenModule frozen, freeze_module(layer ? layer.get() : library.file.get()));
    if (library.digest.empty()) digests_[i] = to_hex(frozen.digest);
    frozen_.push_back(std::move(frozen.fd));
  }
  return {};
}

std::string Libraries::key(const Identity& identity, const Digest& main) const {
  Sha256 hash;
  hash.update(main.data(), main.size());
  add_identity(hash, identity);
  for (size_t i = 0; i < digests_.size(); ++i) {
    // Neither of them has a NUL in it: one library's text is never another's.
    const std::string text = verdict_->libraries[i].name + '\0' + digests_[i] + '\0';
    hash.update(text.data(), text.size());
  }
  return to_hex(hash.finish());
}

std::vector<CompileLibrary> Libraries::requests() const {
  std::vector<CompileLibrary> out;
  for (size_t i = 0; i < frozen_.size(); ++i) {
    out.push_back({verdict_->libraries[i].name, frozen_[i].get()});
  }
  return out;
}

}  // namespace amphora::wasm
