// SPDX-License-Identifier: Apache-2.0
// See archive.h.
#include "image/archive.h"

#include <archive.h>
#include <archive_entry.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "image/manifest.h"

namespace amphora::image {
namespace {

struct FreeRead {
  void operator()(archive* a) const { ::archive_read_free(a); }
};
struct FreeWrite {
  void operator()(archive* a) const { ::archive_write_free(a); }
};
struct FreeEntry {
  void operator()(archive_entry* e) const { ::archive_entry_free(e); }
};
using Reader = std::unique_ptr<archive, FreeRead>;
using Writer = std::unique_ptr<archive, FreeWrite>;
using Entry = std::unique_ptr<archive_entry, FreeEntry>;

Error error_of(archive* a, const std::string& what) {
  const char* text = ::archive_error_string(a);
  return Error(Errc::kInvalid, what + ": " + (text != nullptr ? text : "unknown failure"));
}

la_ssize_t append(archive*, void* out, const void* data, size_t size) {
  static_cast<std::string*>(out)->append(static_cast<const char*>(data), size);
  return static_cast<la_ssize_t>(size);
}

Result<void> open_string(archive* a, std::string* out) {
  // No padding of the last block: the format's own end is enough.
  ::archive_write_set_bytes_per_block(a, 0);
  if (::archive_write_open2(a, out, nullptr, &append, nullptr, nullptr) != ARCHIVE_OK) {
    return std::unexpected(error_of(a, "open an archive in memory"));
  }
  return {};
}

Result<void> write_one(archive* a, const TarEntry& one, int64_t seconds) {
  const Entry entry(::archive_entry_new());
  ::archive_entry_set_pathname(entry.get(), one.path.c_str());
  ::archive_entry_set_perm(entry.get(), static_cast<__LA_MODE_T>(one.mode));
  ::archive_entry_set_mtime(entry.get(), seconds, 0);
  ::archive_entry_set_uid(entry.get(), 0);
  ::archive_entry_set_gid(entry.get(), 0);
  ::archive_entry_set_size(entry.get(), 0);
  switch (one.kind) {
    case TarEntry::Kind::kFile:
      ::archive_entry_set_filetype(entry.get(), AE_IFREG);
      ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(one.body.size()));
      break;
    case TarEntry::Kind::kDirectory:
      ::archive_entry_set_filetype(entry.get(), AE_IFDIR);
      break;
    case TarEntry::Kind::kSymlink:
      ::archive_entry_set_filetype(entry.get(), AE_IFLNK);
      ::archive_entry_set_symlink(entry.get(), one.body.c_str());
      break;
  }
  if (::archive_write_header(a, entry.get()) != ARCHIVE_OK) {
    return std::unexpected(error_of(a, "write " + one.path));
  }
  if (one.kind != TarEntry::Kind::kFile || one.body.empty()) return {};
  const la_ssize_t n = ::archive_write_data(a, one.body.data(), one.body.size());
  if (n != static_cast<la_ssize_t>(one.body.size())) {
    return std::unexpected(error_of(a, "write " + one.path));
  }
  return {};
}

Result<void> finish(archive* a) {
  if (::archive_write_close(a) == ARCHIVE_OK) return {};
  return std::unexpected(error_of(a, "finish an archive"));
}

/// What is left of the entry at hand, piece by piece.
Result<void> read_through(archive* a, const std::string& name, const Piece& use) {
  uint64_t total = 0;
  for (;;) {
    const void* data = nullptr;
    size_t size = 0;
    la_int64_t offset = 0;
    const int status = ::archive_read_data_block(a, &data, &size, &offset);
    if (status == ARCHIVE_EOF) return {};
    if (status < ARCHIVE_WARN) return std::unexpected(error_of(a, "read " + name));
    if (static_cast<uint64_t>(offset) != total) {
      return fail(Errc::kInvalid, "read " + name + ": it is a sparse file");
    }
    total += size;
    if (total > kMaxUnpacked) {
      return fail(Errc::kInvalid,
                  name + " has more than " + std::to_string(kMaxUnpacked) + " bytes");
    }
    TRY(use({static_cast<const char*>(data), size}));
  }
}

}  // namespace

Result<std::string> write_tar(std::span<const TarEntry> entries, int64_t seconds) {
  std::string out;
  const Writer writer(::archive_write_new());
  // ustar where it can say it all, pax headers where it cannot.
  ::archive_write_set_format_pax_restricted(writer.get());
  TRY(open_string(writer.get(), &out));
  for (const TarEntry& one : entries) TRY(write_one(writer.get(), one, seconds));
  TRY(finish(writer.get()));
  return out;
}

Result<std::string> compress(std::string_view bytes, Packing packing) {
  if (packing == Packing::kNone) return std::string(bytes);
  std::string out;
  const Writer writer(::archive_write_new());
  ::archive_write_set_format_raw(writer.get());
  if (packing == Packing::kGzip) {
    ::archive_write_add_filter_gzip(writer.get());
    ::archive_write_set_filter_option(writer.get(), "gzip", "timestamp", nullptr);
  } else {
    ::archive_write_add_filter_zstd(writer.get());
  }
  TRY(open_string(writer.get(), &out));
  TRY(write_one(
      writer.get(),
      {.path = "data", .kind = TarEntry::Kind::kFile, .mode = 0644, .body = std::string(bytes)},
      0));
  TRY(finish(writer.get()));
  return out;
}

Result<void> decompress(std::string_view bytes, Packing packing, const Piece& use) {
  if (packing == Packing::kNone) return use(bytes);
  const Reader reader(::archive_read_new());
  ::archive_read_support_format_raw(reader.get());
  if (packing == Packing::kGzip) {
    ::archive_read_support_filter_gzip(reader.get());
  } else {
    ::archive_read_support_filter_zstd(reader.get());
  }
  archive_entry* entry = nullptr;
  if (::archive_read_open_memory(reader.get(), bytes.data(), bytes.size()) != ARCHIVE_OK ||
      ::archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK) {
    return std::unexpected(error_of(reader.get(), "decompress"));
  }
  // Of bytes that are not compressed at all libarchive makes a raw entry, too.
  if (::archive_filter_code(reader.get(), 0) == ARCHIVE_FILTER_NONE) {
    return fail(Errc::kInvalid, "decompress: the bytes are not compressed as their type says");
  }
  return read_through(reader.get(), "compressed bytes", use);
}

Result<void> read_tar(const std::string& path, const Member& use) {
  const Reader reader(::archive_read_new());
  ::archive_read_support_format_tar(reader.get());
  ::archive_read_support_filter_gzip(reader.get());
  ::archive_read_support_filter_zstd(reader.get());
  if (::archive_read_open_filename(reader.get(), path.c_str(), 1 << 16) != ARCHIVE_OK) {
    return std::unexpected(error_of(reader.get(), path));
  }
  for (;;) {
    archive_entry* entry = nullptr;
    const int status = ::archive_read_next_header(reader.get(), &entry);
    if (status == ARCHIVE_EOF) return {};
    if (status < ARCHIVE_WARN) return std::unexpected(error_of(reader.get(), path));
    const char* raw = ::archive_entry_pathname(entry);
    if (raw == nullptr || ::archive_entry_filetype(entry) != AE_IFREG ||
        ::archive_entry_hardlink(entry) != nullptr) {
      continue;
    }
    std::string name(raw);
    if (name.starts_with("./")) name.erase(0, 2);
    const auto size = static_cast<uint64_t>(::archive_entry_size(entry));
    TRY(use(name, size,
            [&](const Piece& piece) { return read_through(reader.get(), name, piece); }));
  }
}

}  // namespace amphora::image
