// SPDX-License-Identifier: Apache-2.0
// See bytes.h. The digest is that of the layer as it was sent, so that it is known only at the end;
// until then nothing but zlib, zstd and a memfd has seen the bytes.
#include "content/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <zconf.h>
#include <zlib.h>
#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "content/api.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "image/component.h"
#include "image/manifest.h"

namespace amphora::content {
namespace {

constexpr size_t kPiece = size_t{1} << 18;
constexpr size_t kHead = 64;
constexpr uint64_t kMaxModule = uint64_t{512} << 20;  // as wasm/module.h has it

/// Where uncompressed bytes go, up to the largest module there may be.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}
  Result<void> write(const char* data, size_t size) {
    total_ += size;
    if (total_ > kMaxModule) {
      return fail(Errc::kInvalid,
                  "the module has more than " + std::to_string(kMaxModule) + " bytes");
    }
    return write_all(fd_, {data, size});
  }

 private:
  int fd_;
  uint64_t total_ = 0;
};

class Unpacker {
 public:
  virtual ~Unpacker() = default;
  virtual Result<void> feed(std::string_view piece) = 0;
  virtual bool is_whole() const = 0;
};

class Plain final : public Unpacker {
 public:
  explicit Plain(Output& out) : out_(out) {}
  Result<void> feed(std::string_view piece) override {
    return out_.write(piece.data(), piece.size());
  }
  bool is_whole() const override { return true; }

 private:
  Output& out_;
};

class Gunzip final : public Unpacker {
 public:
  explicit Gunzip(Output& out) : out_(out), buffer_(std::make_unique<char[]>(kPiece)) {
    good_ = ::inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK;
  }
  ~Gunzip() override { ::inflateEnd(&stream_); }
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;
  Result<void> feed(std::string_view piece) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream_.avail_in = static_cast<uInt>(piece.size());
    while (good_ && stream_.avail_in > 0) {
      if (whole_ && ::inflateReset(&stream_) != Z_OK) break;  // one more member
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.get());
      stream_.avail_out = kPiece;
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      whole_ = status == Z_STREAM_END;
      good_ = whole_ || status == Z_OK;
      if (good_) TRY(out_.write(buffer_.get(), kPiece - stream_.avail_out));
    }
    if (good_) return {};
    return fail(Errc::kInvalid, "the layer is no gzip, as its type says");
  }
  bool is_whole() const override { return whole_; }

 private:
  Output& out_;
  std::unique_ptr<char[]> buffer_;
  z_stream stream_{};
  bool good_ = false, whole_ = false;
};

class Unzstd final : public Unpacker {
 public:
  explicit Unzstd(Output& out)
      : out_(out), buffer_(std::make_unique<char[]>(kPiece)), stream_(::ZSTD_createDStream()) {}
  ~Unzstd() override { ::ZSTD_freeDStream(stream_); }
  Unzstd(const Unzstd&) = delete;
  Unzstd& operator=(const Unzstd&) = delete;
  Result<void> feed(std::string_view piece) override {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    bool full = false;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer out{buffer_.get(), kPiece, 0};
      const size_t left = ::ZSTD_decompressStream(stream_, &out, &in);
      if (::ZSTD_isError(left) != 0) {
        return fail(Errc::kInvalid, "the layer is no zstd, as its type says");
      }
      whole_ = left == 0;
      full = out.pos == out.size;
      TRY(out_.write(buffer_.get(), out.pos));
    }
    return {};
  }
  bool is_whole() const override { return whole_; }

 private:
  Output& out_;
  std::unique_ptr<char[]> buffer_;
  ZSTD_DStream* stream_;
  bool whole_ = false;
};

std::unique_ptr<Unpacker> unpacker_for(image::Packing packing, Output& out) {
  switch (packing) {
    case image::Packing::kGzip:
      return std::make_unique<Gunzip>(out);
    case image::Packing::kZstd:
      return std::make_unique<Unzstd>(out);
    case image::Packing::kNone:
      break;
  }
  return std::make_unique<Plain>(out);
}

Result<UniqueFd> make_memory() {
  UniqueFd memory(sys::memfd_create("layer", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return fail_errno(errno, "make a memfd for the layer");
  return memory;
}

Result<UniqueFd> sealed(UniqueFd memory) {
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "seal the layer");
  return memory;
}

}  // namespace

Result<UniqueFd> module_of(Api& api, const image::Descriptor& layer) {
  TRY_ASSIGN(UniqueFd memory, make_memory());
  Output out(memory.get());
  const auto unpacker = unpacker_for(image::packing_of(layer.media_type), out);
  TRY(api.read(layer.digest, [&](std::string_view piece) { return unpacker->feed(piece); }));
  if (!unpacker->is_whole()) {
    return fail(Errc::kInvalid, "the layer " + layer.digest + " is cut off");
  }
  return sealed(std::move(memory));
}

Result<UniqueFd> head_of(Api& api, const image::Descriptor& layer) {
  if (image::packing_of(layer.media_type) != image::Packing::kNone) return module_of(api, layer);
  TRY_ASSIGN(const std::string head, api.head(layer.digest, kHead));
  if (image::binary_of(head) == image::Binary::kOther) return module_of(api, layer);
  TRY_ASSIGN(UniqueFd memory, make_memory());
  TRY(write_all(memory.get(), head));
  return sealed(std::move(memory));
}

}  // namespace amphora::content
