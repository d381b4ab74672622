// SPDX-License-Identifier: Apache-2.0
// See module.h.
#include "wasm/module.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"

namespace amphora::wasm {
namespace {

constexpr size_t kPiece = 1 << 18;

/// Reads the file once from its start; every piece goes to `use`.
template <class Use>
Result<Digest> read_through(int module, Use use) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kPiece);
  Sha256 hash;
  uint64_t at = 0;
  for (;;) {
    const ssize_t n = ::pread(module, buffer.get(), kPiece, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read the module");
    if (n == 0) return hash.finish();
    at += static_cast<uint64_t>(n);
    if (at > kMaxModule) {
      return fail(Errc::kInvalid,
                  "the module has more than " + std::to_string(kMaxModule) + " bytes");
    }
    const std::string_view piece(buffer.get(), static_cast<size_t>(n));
    hash.update(piece.data(), piece.size());
    TRY(use(piece));
  }
}

}  // namespace

Result<Digest> digest_module(int module) {
  return read_through(module, [](std::string_view) { return Result<void>(); });
}

Result<FrozenModule> freeze_module(int module) {
  UniqueFd copy(sys::memfd_create("module", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!copy) return fail_errno(errno, "make a memfd for the module");
  TRY_ASSIGN(const Digest digest, read_through(module, [&](std::string_view piece) {
               return write_all(copy.get(), piece);
             }));
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(copy.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "seal the module");
  return FrozenModule{std::move(copy), digest};
}

}  // namespace amphora::wasm
