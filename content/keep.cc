// SPDX-License-Identifier: Apache-2.0
// See keep.h.
#include "content/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"

namespace amphora::content {
namespace {

/// A crash leaves a lease at most this long.
constexpr int64_t kLeaseSeconds = 900;
/// As much of a digest as tells it apart from others.
constexpr size_t kShortDigest = 16;

std::string rfc3339_in(int64_t seconds) {
  struct tm parts{};
  const time_t when = ::time(nullptr) + seconds;
  char text[32] = "";
  if (::gmtime_r(&when, &parts) != nullptr) {
    ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  }
  return text;
}

/// Everything in memory: containerd takes it in messages of a megabyte.
class Mapped {
 public:
  explicit Mapped(int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0 || info.st_size <= 0) return;
    size_ = static_cast<size_t>(info.st_size);
    void* const at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at != MAP_FAILED) data_ = static_cast<const char*>(at);
  }
  ~Mapped() {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  bool is_good() const { return data_ != nullptr; }
  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

/// As the cache does it: what is opened here leads to nothing that can be written.
UniqueFd read_only_view(const std::string& directory) {
  const UniqueFd dir(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return UniqueFd();
  auto tree = sys::clone_tree(dir.get(), "", /*recursive=*/false);
  if (!tree) return UniqueFd();
  const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY, .attr_clr = MOUNT_ATTR_NOEXEC};
  if (sys::mount_setattr(tree->get(), "", AT_EMPTY_PATH, attr) != 0) return UniqueFd();
  return std::move(*tree);
}

}  // namespace

void Keeper::look_for_store() {
  const auto root = api_.content_root();
  if (root && root->starts_with('/')) blobs_ = read_only_view(*root + "/blobs/sha256");
}

UniqueFd Keeper::open_file(const std::string& digest) {
  if (!blobs_) return UniqueFd();
  return UniqueFd(
      ::openat(blobs_.get(), digest.substr(7).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
}

Result<UniqueFd> Keeper::find(const std::string& digest) {
  // The file may be another namespace's, which is not ours to use.
  auto info = api_.info(digest);
  if (!info) {
    if (info.error().code() == Errc::kNotFound) return UniqueFd();
    return std::unexpected(std::move(info).error());
  }
  TRY(hold(digest));
  if (UniqueFd file = open_file(digest)) return file;
  UniqueFd memory(sys::memfd_create("artifact", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return fail_errno(errno, "make a memfd for an artifact");
  if (!api_.read(digest, [&](std::string_view piece) { return write_all(memory.get(), piece); })) {
    return UniqueFd();
  }
  // As files of the store are, so that nobody takes it for a file that others may write.
  if (::fchmod(memory.get(), 0400) != 0) return fail_errno(errno, "change the mode of an artifact");
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "seal an artifact");
  return memory;
}

/// By a label of our layer, which may not be the one that it was first compiled for: the same module is
/// another layer when it is compressed, and an artifact may be that of several modules.
Result<void> Keeper::hold(const std::string& digest) {
  const std::string label =
      "containerd.io/gc.ref.content.amphora-" + digest.substr(7, kShortDigest);
  TRY_ASSIGN(const Api::Info layer, api_.info(layer_.digest));
  const auto held = layer.labels.find(label);
  if (held != layer.labels.end() && held->second == digest) return {};
  return api_.set_label(layer_.digest, label, digest);
}

Result<void> Keeper::write(const std::string& key, const std::string& digest, int artifact) {
  const Mapped mapped(artifact);
  if (!mapped.is_good()) return fail(Errc::kInternal, "the artifact cannot be mapped");
  uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random)
    return fail_errno(errno, "getrandom");
  // Of this one write alone: nobody waits for another's, and a crash blocks nobody.
  const std::string lease = "amphora-" + key.substr(0, kShortDigest) + "-" + std::to_string(random);
  TRY(api_.make_lease(lease, rfc3339_in(kLeaseSeconds)));
  auto done = api_.write({.ref = lease,
                          .digest = digest,
                          .lease = lease,
                          .bytes = mapped.bytes(),
                          .labels = {{"amphora.dev/compiled", "1"}}});
  if (done) done = hold(digest);
  const auto ended = api_.end_lease(lease);
  return done ? ended : done;
}

Result<UniqueFd> Keeper::keep(const std::string& key, const std::string& digest, int artifact) {
  TRY(write(key, digest, artifact));
  return find(digest);
}

}  // namespace amphora::content
