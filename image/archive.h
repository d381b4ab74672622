// SPDX-License-Identifier: Apache-2.0
// Tars and compression, by libarchive, which no other file includes: writing what is the same bytes
// whenever and wherever it is written, reading what anybody may have written. Not here: what an image
// is made of (build, layout).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "image/manifest.h"

namespace amphora::image {

struct TarEntry {
  enum class Kind : uint8_t { kFile, kDirectory, kSymlink };
  std::string path;  ///< relative, no leading slash
  Kind kind = Kind::kFile;
  unsigned mode = 0644;
  std::string body;  ///< of a file; of a symlink where it leads
};

/// One tar with these entries in this order, all of root's and of the time `seconds`.
Result<std::string> write_tar(std::span<const TarEntry> entries, int64_t seconds);
/// The bytes compressed, without a time in the header.
Result<std::string> compress(std::string_view bytes, Packing packing);

/// More is a bomb, or no image for our tools.
inline constexpr uint64_t kMaxUnpacked = uint64_t{8} << 30;
using Piece = std::function<Result<void>(std::string_view)>;
/// The bytes uncompressed, piece by piece.
Result<void> decompress(std::string_view bytes, Packing packing, const Piece& use);

/// Calls `use` for every regular file of a tar (itself compressed or not): its name without "./", its
/// size, and a function that reads it through once.
using ReadMember = std::function<Result<void>(const Piece& use)>;
using Member =
    std::function<Result<void>(const std::string& name, uint64_t size, const ReadMember&)>;
Result<void> read_tar(const std::string& path, const Member& use);

}  // namespace amphora::image
