// SPDX-License-Identifier: Apache-2.0
// See engine.h.
#include "wasm/host/engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>

#include "executor/base/missing.h"

namespace amphora::wasm {
namespace {

/// The name becomes part of a file name.
bool is_plain_name(const char* name) noexcept {
  const size_t size = std::strlen(name);
  return size > 0 && size <= 31 &&
         std::strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

/// The directory on a read-only mount of its own where we may make one, else as it is.
int open_directory(const char* directory) noexcept {
  const auto tree = static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree >= 0) {
    const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY};
    if (::syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0) return tree;
    ::close(tree);
  }
  return ::open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

}  // namespace

const amphora_engine* load_engine(const char* directory, const char* role, const char* name,
                                  char* text, size_t capacity) noexcept {
  if (!is_plain_name(name)) {
    std::snprintf(text, capacity, "engine \"%s\": not a name (a-z, 0-9, -)", name);
    return nullptr;
  }
  char file[80];
  std::snprintf(file, sizeof file, "libamphora-%s-%s.so", role, name);
  const int dir = open_directory(directory);
  const int fd = dir < 0 ? -1 : ::openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  const int err = errno;
  if (dir >= 0) ::close(dir);
  if (fd < 0) {
    std::snprintf(text, capacity, "engine \"%s\" is not installed: %s/%s: %s", name, directory,
                  file, std::strerror(err));
    return nullptr;
  }
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  void* library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  ::close(fd);
  if (library == nullptr) {
    std::snprintf(text, capacity, "engine \"%s\": load %s/%s: %s", name, directory, file,
                  ::dlerror());
    return nullptr;
  }
  using Entry = const amphora_engine* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, "amphora_engine_entry"));
  const amphora_engine* engine = entry != nullptr ? entry() : nullptr;
  if (engine == nullptr || engine->abi_version != AMPHORA_ENGINE_ABI ||
      engine->size < offsetof(amphora_engine, interrupt)) {
    std::snprintf(text, capacity, "engine \"%s\": %s/%s does not speak interface version %u", name,
                  directory, file, AMPHORA_ENGINE_ABI);
    return nullptr;
  }
  return engine;
}

int exit_code_of(int result) noexcept {
  switch (result) {
    case AMPHORA_OK:
      return 0;
    case AMPHORA_ERR_INVALID:
    case AMPHORA_ERR_UNSUPPORTED:
    case AMPHORA_ERR_THREADS:
    case AMPHORA_ERR_OPTION:
    case AMPHORA_ERR_IMPORTS:
      return 126;
    case AMPHORA_ERR_NOT_FOUND:
      return 127;
    case AMPHORA_ERR_TRAP:
      return 134;
    default:
      return 125;
  }
}

}  // namespace amphora::wasm
