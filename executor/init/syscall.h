// SPDX-License-Identifier: Apache-2.0
// System calls of the child, straight to the kernel: results are -errno, libc's errno and caches are
// never touched, so the calls are safe after a raw clone of a threaded process.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace amphora::init {

#if defined(__x86_64__)
inline long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                long f = 0) noexcept {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                long f = 0) noexcept {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
}
#else
#error "amphora::init needs a raw system call for this architecture"
#endif

inline long arg(const void* pointer) noexcept { return reinterpret_cast<long>(pointer); }
inline long arg(uint64_t value) noexcept { return static_cast<long>(value); }
inline long arg(uint32_t value) noexcept { return static_cast<long>(value); }
inline long arg(int value) noexcept { return value; }

/// call(SYS_x, args...): every argument as the kernel's word.
template <class... Args>
inline long call(long number, Args... args) noexcept {
  return raw(number, arg(args)...);
}

/// The descriptor or -errno that a call returned; a local of one operation. Not closed one by one:
/// kTidy closes all at once before anything of the container runs.
class LocalFd {
 public:
  explicit LocalFd(long fd) noexcept : fd_(static_cast<int>(fd)) {}
  int get() const noexcept { return fd_; }
  bool ok() const noexcept { return fd_ >= 0; }
  long error() const noexcept { return fd_; }

 private:
  int fd_;
};

}  // namespace amphora::init
