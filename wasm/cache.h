// SPDX-License-Identifier: Apache-2.0
// The store of compiled modules: one file per key in a directory that only we can write, found, checked,
// published by rename and bounded in size. What a key is made of is the executor's business; what is
// in a file, the engine's. A cache that cannot be used makes starts slower, never wrong.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::wasm {

class Cache {
 public:
  /// `directory` is made (0700) when missing. Whatever is wrong with it, the cache then is off and
  /// `problem` says why.
  static std::unique_ptr<Cache> open(const std::string& directory, uint64_t max_bytes);
  /// AMPHORA_CACHE_DIR, else /var/cache/amphora (root) or below the user's cache directory.
  static std::string default_directory();
  /// AMPHORA_CACHE_SIZE in bytes, else 1 GiB.
  static uint64_t default_size();

  /// Makes the artifact: a sealed memfd.
  using Produce = std::function<Result<UniqueFd>()>;

  /// The artifact of `key` (letters and digits), read-only, if it is there and is what we wrote. With a
  /// `store` it is looked for there first: what we know of it is then here, and its bytes there.
  UniqueFd find(const std::string& key, detect::ArtifactStore* store = nullptr);
  /// The same, or makes it; of all who ask for one key at the same time, in whatever process, one makes
  /// it. When that one fails, those who waited fail alike if it was the module's fault (kInvalid,
  /// kUnsupported), and else (its memory, its time) each makes its own at once: nobody waits for more
  /// than one other. What cannot be stored is returned as it was made.
  /// `label` says in words what it is, for entries(). What `store` does not take is kept here.
  Result<UniqueFd> get(const std::string& key, const Produce& produce,
                       const std::string& label = "", detect::ArtifactStore* store = nullptr);

  struct Entry {
    std::string key, label;
    uint64_t size = 0;
    int64_t used = 0;  ///< seconds since 1970, as exact as "least recently used" is
  };
  /// All artifacts, the most recently used first.
  std::vector<Entry> entries();
  /// Takes one away; containers that run from it go on.
  void remove(const std::string& key);

  /// Small facts beside the artifacts (up to 4 KiB), by name; empty when absent.
  std::string note(const std::string& name);
  void set_note(const std::string& name, std::string_view bytes);

  const std::string& problem() const noexcept { return problem_; }

  /// What it has done so far, for tests and logs.
  struct Counts {
    std::atomic<uint64_t> trusted{0};   ///< found, unchanged since it was last read through
    std::atomic<uint64_t> verified{0};  ///< found, and its digest was right
    std::atomic<uint64_t> refused{0};   ///< found, and not what we had written: removed
    std::atomic<uint64_t> made{0};
    std::atomic<uint64_t> removed{0};  ///< to bound the size
  };
  const Counts& counts() const noexcept { return counts_; }

 private:
  Cache(std::string problem, UniqueFd dir, UniqueFd read_dir, bool copy, uint64_t max_bytes)
      : problem_(std::move(problem)),
        dir_(std::move(dir)),
        read_dir_(std::move(read_dir)),
        copy_(copy),
        max_bytes_(max_bytes) {}
  /// One artifact that somebody wants, and what get() was told about it.
  struct Want {
    const std::string& key;
    const Produce& produce;
    const std::string& label;
    detect::ArtifactStore* store;
  };
  Result<UniqueFd> make(const Want& want);
  Result<UniqueFd> make_beside(const Want& want);
  UniqueFd keep(const Want& want, UniqueFd artifact);
  UniqueFd keep_in_store(const Want& want, int artifact);
  UniqueFd find_in_store(const std::string& key, detect::ArtifactStore& store);
  Result<void> publish(const std::string& key, int artifact, const std::string& label);
  bool is_as_written(const std::string& name, const struct Record& record, int artifact);
  void touch(const std::string& name);
  void shrink(const std::string& keep);

  const std::string problem_;
  const UniqueFd dir_;  ///< -1: off
  const UniqueFd
      read_dir_;     ///< the same on a read-only mount of its own: artifacts are opened here
  const bool copy_;  ///< nothing may be executed from there: artifacts are copied to memory
  const uint64_t max_bytes_;
  Counts counts_;
};

}  // namespace amphora::wasm
