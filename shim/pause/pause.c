/* SPDX-License-Identifier: Apache-2.0 */
/* The program of a sandbox that the shim makes by itself: holds the pod's namespaces, and as the first
 * process of a shared pid namespace clears away its orphans. It is ended by SIGKILL. Free-standing, a page
 * of code within the shim (sandbox_files.cc): a pod pays for it, and no libc is worth that. */

enum { kSigChild = 17 };
struct action {
  unsigned long handler, flags, restorer, mask;
};

#if defined(__x86_64__)
enum { kSigaction = 13, kPoll = 271 };
static long call(long number, long a, long b, long c, long d) {
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { kSigaction = 134, kPoll = 73 };
static long call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
}
#else
#error "the pause program has no system call for this architecture"
#endif

void _start(void) {
  /* Who ignores SIGCHLD needs to wait for nobody. */
  const struct action ignore = {.handler = 1};
  call(kSigaction, kSigChild, (long)&ignore, 0, 8);
  for (;;) call(kPoll, 0, 0, 0, 0);
}
