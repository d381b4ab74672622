// SPDX-License-Identifier: Apache-2.0
// See cache.h. Files: KEY.art (the artifact, as the engine wrote it), KEY.rec (Record), KEY.lock (while
// somebody makes it), KEY-STORE.rec (the same of one whose bytes are in another store), KEY.fail (why the last one to make it could not), NAME.note, tmp.*. An artifact is machine code that runs in our host, so one whose
// bytes are not those we wrote is never handed out. Reading 35 MB at each start would cost more than
// the start: a file whose inode, size and change time are those of the last full read has not been
// written since, as the change time cannot be set by a program.
#include "wasm/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/missing.h"
#include "executor/base/sys.h"
#include "wasm/sha256.h"

namespace amphora::wasm {

struct Record {
  uint32_t magic;
  uint32_t version;
  char key[64];  ///< the file's name, cut
  uint64_t size, inode;
  int64_t changed;   ///< ctime, nanoseconds
  int64_t verified;  ///< when the whole file was last read
  Digest digest;
  char label[96];  ///< in words; cut
};

namespace {

constexpr uint32_t kRecordMagic = 0x63657261;  // "arec"
constexpr int64_t kSecond = 1000000000;
/// Change times come from a clock that ticks every 1-10 ms: a write in the same tick as our read would
/// not show. A record made this soon after the change is not trusted, and renewed by a full read.
constexpr int64_t kTick = 50000000;
/// How exact "least recently used" is.
constexpr int64_t kTouchEvery = 60 * kSecond;
constexpr int64_t kStale = 3600 * kSecond;
/// A record whose bytes went with their image stays this long.
constexpr int64_t kForgotten = int64_t{30} * 24 * 3600 * kSecond;
constexpr size_t kMaxNote = 4096;
constexpr uint32_t kRecordVersion = 2;

int64_t nanoseconds(const struct timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

int64_t now() {
  struct timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return nanoseconds(time);
}

Result<Digest> digest_of(int fd) {
  Sha256 hash;
  std::vector<char> buffer(1 << 18);
  off_t at = 0;
  for (;;) {
    const ssize_t n = ::pread(fd, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read an artifact");
    if (n == 0) return hash.finish();
    hash.update(buffer.data(), static_cast<size_t>(n));
    at += n;
  }
}

Result<void> copy(int from, int to) {
  off_t at = 0;
  for (;;) {
    const ssize_t n = ::sendfile(to, from, &at, 1 << 30);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "copy an artifact");
    if (n == 0) return {};
  }
}

UniqueFd in_memory(int artifact) {
  UniqueFd memory(sys::memfd_create("artifact", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || !copy(artifact, memory.get())) return UniqueFd();
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0) return UniqueFd();
  return memory;
}

bool read_record(int dir, const std::string& key, Record* record) {
  const UniqueFd fd(::openat(dir, (key + ".rec").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd || ::read(fd.get(), record, sizeof *record) != sizeof *record) return false;
  const std::string_view named(record->key, ::strnlen(record->key, sizeof record->key));
  return record->magic == kRecordMagic && record->version == kRecordVersion &&
         named == std::string_view(key).substr(0, sizeof record->key);
}

/// Creates or replaces `name`. Unlike replace_file_at's, the temporary name is nobody else's: records
/// are renewed without a lock, and a reader must never see half of one.
Result<void> replace(int dir, const std::string& name, std::string_view bytes) {
  uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random)
    return fail_errno(errno, "getrandom");
  const std::string temporary = "tmp." + std::to_string(random);
  TRY_ASSIGN(const UniqueFd file,
             open_at(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  auto done = write_all(file.get(), bytes);
  if (done && ::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0) {
    done = fail_errno(errno, "rename " + temporary + " to " + name);
  }
  if (!done) ::unlinkat(dir, temporary.c_str(), 0);
  return done;
}

Result<void> write_record(int dir, const std::string& key, const struct stat& file,
                          const Digest& digest, std::string_view label) {
  Record record{};
  record.magic = kRecordMagic;
  record.version = kRecordVersion;
  std::memcpy(record.key, key.data(), std::min(key.size(), sizeof record.key));
  record.size = static_cast<uint64_t>(file.st_size);
  record.inode = file.st_ino;
  record.changed = nanoseconds(file.st_ctim);
  record.verified = now();
  record.digest = digest;
  label.copy(record.label, sizeof record.label - 1);
  return replace(dir, key + ".rec", {reinterpret_cast<const char*>(&record), sizeof record});
}

/// A clone of the mount, read-only, and executable where we may say so: no mapping of an artifact leads
/// to something that can be written.
UniqueFd read_only_view(int dir) {
  auto tree = sys::clone_tree(dir, "", /*recursive=*/false);
  if (tree) {
    MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY, .attr_clr = MOUNT_ATTR_NOEXEC};
    if (sys::mount_setattr(tree->get(), "", AT_EMPTY_PATH, attr) == 0) return std::move(*tree);
    attr.attr_clr = 0;
    if (sys::mount_setattr(tree->get(), "", AT_EMPTY_PATH, attr) == 0) return std::move(*tree);
  }
  return UniqueFd(::fcntl(dir, F_DUPFD_CLOEXEC, 3));
}

/// Holds KEY.lock. The file goes away with its holder; who waited for it then asks anew.
class Lock {
 public:
  enum class Wait : bool { kNo, kYes };

  Lock(int dir, std::string name, Wait wait) : dir_(dir), name_(std::move(name)) {
    for (;;) {
      fd_.reset(::openat(dir_, name_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (!fd_) return;  // full or read-only: everybody makes his own
      while (::flock(fd_.get(), LOCK_EX | (wait == Wait::kNo ? LOCK_NB : 0)) != 0) {
        if (errno == EINTR) continue;
        if (wait == Wait::kNo) fd_.reset();
        return;
      }
      struct stat file{};
      if (::fstat(fd_.get(), &file) != 0 || file.st_nlink > 0) return;
    }
  }
  ~Lock() {
    if (fd_) ::unlinkat(dir_, name_.c_str(), 0);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool is_held() const noexcept { return static_cast<bool>(fd_); }

 private:
  int dir_;
  std::string name_;
  UniqueFd fd_;
};

/// KEY.fail: one letter, whose fault it was, and the text.
constexpr char kOfTheModule = 'm', kUnsupportedModule = 'u', kOfTheMaker = 's';

void record_failure(int dir, const std::string& key, const Error& error) {
  char fault = kOfTheMaker;
  if (error.code() == Errc::kInvalid) fault = kOfTheModule;
  if (error.code() == Errc::kUnsupported) fault = kUnsupportedModule;
  static_cast<void>(replace(dir, key + ".fail", fault + error.what()));
}

/// What record_failure wrote at or after `since`; empty: nothing.
std::string failure_since(int dir, const std::string& key, int64_t since) {
  const std::string name = key + ".fail";
  struct stat file{};
  if (::fstatat(dir, name.c_str(), &file, AT_SYMLINK_NOFOLLOW) != 0) return "";
  // File times are as coarse as kTick says.
  if (nanoseconds(file.st_mtim) + kTick < since) return "";
  auto text = read_file_at(dir, name, kMaxNote);
  return text ? std::move(*text) : "";
}

}  // namespace

std::string Cache::default_directory() {
  if (const char* dir = std::getenv("AMPHORA_CACHE_DIR"); dir != nullptr && *dir == '/') return dir;
  if (::getauxval(AT_EUID) == 0) return "/var/cache/amphora";
  if (const char* dir = std::getenv("XDG_CACHE_HOME"); dir != nullptr && *dir == '/') {
    return std::string(dir) + "/amphora";
  }
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::string(home) + "/.cache/amphora" : "";
}

uint64_t Cache::default_size() {
  uint64_t size = uint64_t{1} << 30;
  if (const char* text = std::getenv("AMPHORA_CACHE_SIZE"); text != nullptr) {
    std::from_chars(text, text + std::strlen(text), size);
  }
  return size;
}

std::unique_ptr<Cache> Cache::open(const std::string& directory, uint64_t max_bytes) {
  const auto off = [&](std::string problem) {
    return std::unique_ptr<Cache>(
        new Cache(std::move(problem), UniqueFd(), UniqueFd(), false, max_bytes));
  };
  if (directory.empty()) return off("no cache directory");
  // Only the last one must be ours. What cannot be made cannot be opened either, which says why.
  (void)make_directories(directory, 0755, 0700);
  UniqueFd dir(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!dir) return off(Error::from_errno(errno, "cache " + directory).what());
  struct stat file{};
  if (::fstat(dir.get(), &file) != 0 || file.st_uid != ::geteuid() || (file.st_mode & 022) != 0) {
    return off("cache " + directory + ": others may write it");
  }
  UniqueFd read_dir = read_only_view(dir.get());
  struct statvfs fs{};
  const bool copy = ::fstatvfs(read_dir.get(), &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0;
  return std::unique_ptr<Cache>(
      new Cache("", std::move(dir), std::move(read_dir), copy, max_bytes));
}

/// Whether the file is what the record `name` says; a full read, if it had to be one, is recorded.
bool Cache::is_as_written(const std::string& name, const Record& record, int artifact) {
  struct stat file{};
  if (::fstat(artifact, &file) != 0) return false;
  const bool ours = S_ISREG(file.st_mode) && file.st_uid == ::geteuid() &&
                    (file.st_mode & 022) == 0 && static_cast<uint64_t>(file.st_size) == record.size;
  const int64_t changed = nanoseconds(file.st_ctim);
  if (ours && file.st_ino == record.inode && changed == record.changed &&
      record.verified > changed + kTick) {
    ++counts_.trusted;
    return true;
  }
  const auto digest = ours ? digest_of(artifact) : Result<Digest>(Digest{});
  if (!digest) return false;
  if (!ours || *digest != record.digest) {
    ++counts_.refused;
    remove(name);
    return false;
  }
  ++counts_.verified;
  // If it changed while we read, the change time differs from what is recorded here.
  static_cast<void>(write_record(dir_.get(), name, file, record.digest, record.label));
  return true;
}

/// For "least recently used".
void Cache::touch(const std::string& record) {
  struct stat rec{};
  const std::string name = record + ".rec";
  if (::fstatat(dir_.get(), name.c_str(), &rec, AT_SYMLINK_NOFOLLOW) == 0 &&
      nanoseconds(rec.st_mtim) + kTouchEvery < now()) {
    ::utimensat(dir_.get(), name.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
  }
}

UniqueFd Cache::find(const std::string& key, detect::ArtifactStore* store) {
  if (!dir_) return UniqueFd();
  if (store != nullptr) {
    if (UniqueFd found = find_in_store(key, *store)) return found;
  }
  Record record;
  if (!read_record(dir_.get(), key, &record)) return UniqueFd();
  UniqueFd fd(::openat(read_dir_.get(), (key + ".art").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd || !is_as_written(key, record, fd.get())) return UniqueFd();
  touch(key);
  return copy_ ? in_memory(fd.get()) : std::move(fd);
}

/// The digest is ours, in a directory that only we can write; whoever may write to the store can make
/// us compile, not load what we did not write.
UniqueFd Cache::find_in_store(const std::string& key, detect::ArtifactStore& store) {
  const std::string name = key + "-" + store.name();
  Record record;
  if (!read_record(dir_.get(), name, &record)) return UniqueFd();
  UniqueFd fd = store.find(to_hex(record.digest));
  if (!fd) {
    remove(name);
    return UniqueFd();
  }
  if (!is_as_written(name, record, fd.get())) return UniqueFd();
  touch(name);
  return fd;
}

Result<UniqueFd> Cache::get(const std::string& key, const Produce& produce,
                            const std::string& label, detect::ArtifactStore* store) {
  if (!dir_) return produce();
  if (UniqueFd found = find(key, store)) return found;
  const Want want{key, produce, label, store};
  const int64_t asked = now();
  {
    Lock const lock(dir_.get(), key + ".lock", Lock::Wait::kNo);
    if (lock.is_held()) return make(want);
  }
  {
    const Lock lock(dir_.get(), key + ".lock", Lock::Wait::kYes);
    const std::string failure = failure_since(dir_.get(), key, asked);
    if (failure.empty()) return make(want);
    if (UniqueFd found = find(key, store)) return found;
    if (failure[0] == kOfTheModule) return fail(Errc::kInvalid, failure.substr(1));
    if (failure[0] == kUnsupportedModule) return fail(Errc::kUnsupported, failure.substr(1));
  }
  return make_beside(want);
}

/// With KEY.lock held.
Result<UniqueFd> Cache::make(const Want& want) {
  if (UniqueFd found = find(want.key, want.store)) return found;
  ++counts_.made;
  auto artifact = want.produce();
  if (!artifact) {
    record_failure(dir_.get(), want.key, artifact.error());
    return artifact;
  }
  return keep(want, std::move(*artifact));
}

/// Another's limits were too small for it; ours may not be, and others wait for theirs.
Result<UniqueFd> Cache::make_beside(const Want& want) {
  ++counts_.made;
  TRY_ASSIGN(UniqueFd artifact, want.produce());
  const Lock lock(dir_.get(), want.key + ".lock", Lock::Wait::kNo);
  if (!lock.is_held()) return artifact;
  if (UniqueFd found = find(want.key, want.store)) return found;
  return keep(want, std::move(artifact));
}

/// A full or read-only file system costs the next start a compile, and this one nothing.
UniqueFd Cache::keep(const Want& want, UniqueFd artifact) {
  UniqueFd found = want.store != nullptr ? keep_in_store(want, artifact.get()) : UniqueFd();
  if (!found && !publish(want.key, artifact.get(), want.label)) return artifact;
  ::unlinkat(dir_.get(), (want.key + ".fail").c_str(), 0);
  shrink(want.key);
  if (!found) found = find(want.key);
  return found ? std::move(found) : std::move(artifact);
}

UniqueFd Cache::keep_in_store(const Want& want, int artifact) {
  const auto digest = digest_of(artifact);
  struct stat file{};
  if (!digest || ::fstat(artifact, &file) != 0) return UniqueFd();
  if (!want.store->keep(want.key, to_hex(*digest), artifact)) return UniqueFd();
  // The store may have had such a blob before, and of that nothing is known yet: no inode has this
  // number, so that it is read through.
  file.st_ino = 0;
  const std::string name = want.key + "-" + want.store->name();
  if (!write_record(dir_.get(), name, file, *digest, want.label)) return UniqueFd();
  return find_in_store(want.key, *want.store);
}

Result<void> Cache::publish(const std::string& key, int artifact, const std::string& label) {
  TRY_ASSIGN(const Digest digest, digest_of(artifact));
  const std::string temporary = "tmp." + key;  // KEY.lock is held
  ::unlinkat(dir_.get(), temporary.c_str(), 0);
  TRY_ASSIGN(UniqueFd file,
             open_at(dir_.get(), temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  const auto written = [&]() -> Result<void> {
    TRY(copy(artifact, file.get()));
    // Before the name: after a power failure a name with other bytes behind it would cost a full read
    // to be found out.
    if (::fdatasync(file.get()) != 0) return fail_errno(errno, "sync an artifact");
    const std::string name = key + ".art";
    if (::renameat(dir_.get(), temporary.c_str(), dir_.get(), name.c_str()) != 0) {
      return fail_errno(errno, "publish an artifact");
    }
    struct stat st{};
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, "stat an artifact");
    return write_record(dir_.get(), key, st, digest, label);
  }();
  if (!written) ::unlinkat(dir_.get(), temporary.c_str(), 0);
  return written;
}

void Cache::remove(const std::string& key) {
  ::unlinkat(dir_.get(), (key + ".rec").c_str(), 0);
  ::unlinkat(dir_.get(), (key + ".art").c_str(), 0);
}

/// Removes the least recently used until the rest fits, and what a crash has left.
void Cache::shrink(const std::string& keep) {
  struct Kept {
    std::string key;
    int64_t used;
    uint64_t size;
  };
  UniqueFd list(::openat(dir_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* directory = list ? ::fdopendir(list.get()) : nullptr;
  if (directory == nullptr) return;
  list.release();
  std::vector<Kept> entries;
  uint64_t total = 0;
  const int64_t present = now();
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    struct stat file{};
    if (::fstatat(dir_.get(), name.c_str(), &file, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const bool passing = name.starts_with("tmp.") || name.ends_with(".fail") ||
                         name.starts_with("threads-") || name.starts_with("imports-");
    if (passing && nanoseconds(file.st_ctim) + kStale < present) {
      ::unlinkat(dir_.get(), name.c_str(), 0);
    }
    if (name.ends_with(".rec") && nanoseconds(file.st_mtim) + kForgotten < present) {
      // Without an artifact beside it: of one in another store, or of none.
      const std::string artifact = name.substr(0, name.size() - 4) + ".art";
      if (::faccessat(dir_.get(), artifact.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        ::unlinkat(dir_.get(), name.c_str(), 0);
    }
    if (!name.ends_with(".art")) continue;
    Kept found{name.substr(0, name.size() - 4), 0, static_cast<uint64_t>(file.st_size)};
    struct stat record{};
    if (::fstatat(dir_.get(), (found.key + ".rec").c_str(), &record, AT_SYMLINK_NOFOLLOW) == 0) {
      found.used = nanoseconds(record.st_mtim);
    }
    total += found.size;
    entries.push_back(std::move(found));
  }
  ::closedir(directory);
  std::sort(entries.begin(), entries.end(),
            [](const Kept& a, const Kept& b) { return a.used < b.used; });
  for (const Kept& entry : entries) {
    if (total <= max_bytes_) return;
    if (entry.key == keep) continue;
    remove(entry.key);
    total -= entry.size;
    ++counts_.removed;
  }
}

std::vector<Cache::Entry> Cache::entries() {
  std::vector<Entry> found;
  UniqueFd list(dir_ ? ::openat(dir_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1);
  DIR* directory = list ? ::fdopendir(list.get()) : nullptr;
  if (directory == nullptr) return found;
  list.release();
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    Record record;
    struct stat file{};
    if (!name.ends_with(".rec")) continue;
    const std::string key(name.substr(0, name.size() - 4));
    if (!read_record(dir_.get(), key, &record) ||
        ::fstatat(dir_.get(), entry->d_name, &file, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;
    }
    found.push_back({key, std::string(record.label, ::strnlen(record.label, sizeof record.label)),
                     record.size, file.st_mtim.tv_sec});
  }
  ::closedir(directory);
  std::sort(found.begin(), found.end(),
            [](const Entry& a, const Entry& b) { return a.used > b.used; });
  return found;
}

std::string Cache::note(const std::string& name) {
  if (!dir_) return "";
  auto text = read_file_at(dir_.get(), name + ".note", kMaxNote);
  return text ? std::move(*text) : "";
}

void Cache::set_note(const std::string& name, std::string_view bytes) {
  if (!dir_ || bytes.size() > kMaxNote) return;
  static_cast<void>(replace(dir_.get(), name + ".note", bytes));
}

}  // namespace amphora::wasm
