// SPDX-License-Identifier: Apache-2.0
// See as_exec.h.
#include "wasm/host/as_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace amphora::wasm {
namespace {

/// The kernel's own borders of code, data, stack, arguments. Filled in the zygote; clones share the
/// layout.
prctl_mm_map g_map{};

uint64_t read_set(int option, unsigned long command, uint64_t candidates) noexcept {
  uint64_t set = 0;
  for (unsigned long cap = 0; cap < 64; ++cap) {
    const uint64_t bit = uint64_t{1} << cap;
    if ((candidates & bit) == 0) continue;
    const int result = option == PR_CAPBSET_READ ? ::prctl(PR_CAPBSET_READ, cap, 0, 0, 0)
                                                 : ::prctl(option, command, cap, 0, 0);
    if (result == 1) set |= bit;
  }
  return set;
}

uint64_t wide(const __user_cap_data_struct* data,
              uint32_t __user_cap_data_struct::* field) noexcept {
  return uint64_t{data[0].*field} | uint64_t{data[1].*field} << 32;
}

/// Copies a table's strings one behind the other, as the kernel lays them out.
char* lay_out(const char* const* table, char* at) noexcept {
  for (; *table != nullptr; ++table) {
    const size_t size = std::strlen(*table) + 1;
    std::memcpy(at, *table, size);
    at += size;
  }
  return at;
}

size_t total(const char* const* table) noexcept {
  size_t size = 0;
  for (; *table != nullptr; ++table) size += std::strlen(*table) + 1;
  return size;
}

/// COMPAT(CONFIG_CHECKPOINT_RESTORE off): writes over the zygote's own few argument bytes; a longer
/// command line is cut.
void overwrite(const char* args, size_t size) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): prctl(2) has addresses as numbers
  char* start = reinterpret_cast<char*>(g_map.arg_start);
  const size_t room = g_map.arg_end - g_map.arg_start;
  if (start == nullptr || room == 0) return;
  std::memset(start, 0, room);
  std::memcpy(start, args, size < room ? size : room - 1);
}

}  // namespace

CapSets caps_after_exec(const CapSets& now, uint64_t bounding, uint64_t ambient,
                        bool root) noexcept {
  // P'(permitted) = (P(inheritable) & F(inheritable)) | (F(permitted) & bounding) | P'(ambient), with F
  // all ones for root and empty else; P'(effective) is P'(permitted) for root, P'(ambient) else.
  uint64_t permitted = ambient;
  if (root) permitted |= now.inheritable | bounding;
  permitted &= now.permitted;
  return {root ? permitted : ambient & now.permitted, permitted, now.inheritable};
}

int take_exec_capabilities(const char** call) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  *call = "capget";
  if (::syscall(SYS_capget, &header, data) != 0) return errno;
  const CapSets now{wide(data, &__user_cap_data_struct::effective),
                    wide(data, &__user_cap_data_struct::permitted),
                    wide(data, &__user_cap_data_struct::inheritable)};
  const int secure = ::prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
  const bool root = ::geteuid() == 0 && (secure < 0 || (secure & SECBIT_NOROOT) == 0);
  // The ambient set is a subset of permitted and inheritable.
  const uint64_t ambient =
      read_set(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, now.permitted & now.inheritable);
  const uint64_t bounding = root ? read_set(PR_CAPBSET_READ, 0, now.permitted) : 0;
  const CapSets then = caps_after_exec(now, bounding, ambient, root);
  if (secure > 0 && (secure & SECBIT_KEEP_CAPS) != 0) ::prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  if (then == now) return 0;
  for (unsigned i = 0; i < 2; ++i) {
    data[i].effective = static_cast<uint32_t>(then.effective >> (32 * i));
    data[i].permitted = static_cast<uint32_t>(then.permitted >> (32 * i));
    data[i].inheritable = static_cast<uint32_t>(then.inheritable >> (32 * i));
  }
  *call = "capset";
  return ::syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

void find_title() noexcept {
  char text[1024];
  const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t n = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (n <= 0) return;
  text[n] = '\0';
  // proc(5): the name in parentheses is field 2 and may hold anything.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr) return;
  uint64_t fields[52] = {};
  ++at;  // the blank before field 3
  for (int field = 3; field < 52 && *at != '\0'; ++field) {
    ++at;
    char* end = nullptr;
    fields[field] = std::strtoull(at, &end, 10);
    at = std::strchr(at, ' ');
    if (at == nullptr) break;
  }
  // Field 51 ends with a newline or a blank, whichever the kernel's field count makes it.
  g_map.start_code = fields[26];
  g_map.end_code = fields[27];
  g_map.start_stack = fields[28];
  g_map.start_data = fields[45];
  g_map.end_data = fields[46];
  g_map.start_brk = fields[47];
  g_map.arg_start = fields[48];
  g_map.arg_end = fields[49];
  g_map.env_start = fields[50];
  g_map.env_end = fields[51];
}

void set_title(const char* const* args, const char* const* env) noexcept {
  if (args[0] != nullptr) {
    const char* slash = std::strrchr(args[0], '/');
    ::prctl(PR_SET_NAME, slash != nullptr ? slash + 1 : args[0], 0, 0, 0);
  }
  const size_t args_size = total(args);
  char* text = static_cast<char*>(std::malloc(args_size + total(env) + 1));
  if (text == nullptr) return;
  char* const args_end = lay_out(args, text);
  char* const env_end = lay_out(env, args_end);
  prctl_mm_map map = g_map;
  // PR_SET_MM_MAP without a new exe takes no capability, unlike the single PR_SET_MM_ARG_START and so
  // on, which want CAP_SYS_RESOURCE.
  map.brk = reinterpret_cast<uint64_t>(::sbrk(0));
  map.arg_start = reinterpret_cast<uint64_t>(text);
  map.arg_end = map.env_start = reinterpret_cast<uint64_t>(args_end);
  map.env_end = reinterpret_cast<uint64_t>(env_end);
  map.auxv = nullptr;
  map.auxv_size = 0;
  map.exe_fd = ~0U;
  if (::prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) != 0) overwrite(text, args_size);
}

}  // namespace amphora::wasm
