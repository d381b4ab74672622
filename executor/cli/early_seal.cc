// SPDX-License-Identifier: Apache-2.0
// Sealing before anything else: verbs that make processes run from a read-only clone of the program's
// own mount (CVE-2019-5736), which takes one more exec. Done at the program's entry point, before
// libc has relocated, allocated or initialised anything, so that the first image costs four system
// calls and hardly a page; main checks again and takes the slow ways where mounts cannot be cloned.
// Here belongs nothing that needs a relocation, thread-local storage or libc.
#include "executor/cli/early_seal.h"

#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/init/syscall.h"

// The kernel's entry: its stack pointer is the only argument, and all registers but that go on to
// libc's _start as they came.
#if defined(__x86_64__)
asm(R"(
  .text
  .globl amphora_entry
  .type amphora_entry, @function
amphora_entry:
  endbr64
  mov %rdx, %r12
  mov %rsp, %rdi
  call amphora_seal_at_entry
  mov %r12, %rdx
  jmp _start
  .size amphora_entry, . - amphora_entry
)");
#elif defined(__aarch64__)
asm(R"(
  .text
  .globl amphora_entry
  .type amphora_entry, %function
amphora_entry:
  mov x19, x0
  mov x0, sp
  bl amphora_seal_at_entry
  mov x0, x19
  b _start
  .size amphora_entry, . - amphora_entry
)");
#endif

namespace amphora::cli {
namespace {

using init::call;

bool is(const char* word, const char* wanted) noexcept {
  while (*word != '\0' && *word == *wanted) {
    ++word;
    ++wanted;
  }
  return *word == *wanted;
}

/// A superset is harmless: an argument that happens to be one of these words seals as well.
bool makes_processes(char** argv) noexcept {
  for (char** word = argv; *word != nullptr; ++word) {
    if (is(*word, "run") || is(*word, "create") || is(*word, "exec")) return true;
  }
  return false;
}

/// Any failure leaves it to main.
void seal(char** argv, char** envp) noexcept {
  if (!makes_processes(argv)) return;
  struct statfs fs;  // not zeroed: that may be a call of memset, which is not relocated yet
  if (call(SYS_statfs, "/proc/self/exe", &fs) < 0) return;
  if ((fs.f_flags & ST_RDONLY) != 0) {
    sealed_at_entry = true;
    return;
  }
  const long tree = call(SYS_open_tree, AT_FDCWD, "/proc/self/exe",
                         static_cast<uint32_t>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree < 0) return;
  const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY};
  if (call(SYS_mount_setattr, static_cast<int>(tree), "", AT_EMPTY_PATH, &attr,
           static_cast<uint64_t>(sizeof attr)) == 0) {
    call(SYS_execveat, static_cast<int>(tree), "", argv, envp, AT_EMPTY_PATH);
  }
  call(SYS_close, static_cast<int>(tree));
}

}  // namespace

bool sealed_at_entry = false;

}  // namespace amphora::cli

/// SAFETY: `stack` is what the kernel hands a new program: argc, argv, 0, envp, 0.
extern "C" [[gnu::used, gnu::visibility("hidden")]] void amphora_seal_at_entry(
    char** stack) noexcept {
  const auto argc = reinterpret_cast<uintptr_t>(stack[0]);
  amphora::cli::seal(stack + 1, stack + 2 + argc);
}
