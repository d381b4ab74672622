// SPDX-License-Identifier: Apache-2.0
// inject ERRNO PROCESS N REPORT COMMAND...: runs COMMAND and lets the N-th system call that can fail so
// (ENOSPC: what writes or makes something; EMFILE: what gives a descriptor) of its PROCESS-th process,
// 0 being COMMAND itself, fail with that errno without being made. N 0: nothing fails. REPORT gets a line
// "PROCESS CALLS" for each process of ours and "failed NUMBER" for the call; the exit code is COMMAND's.
// A program that is not ours (anything but amphora*) is let go. By ptrace: the programs under test hold
// no code for it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the injector reads registers of x86-64"
#endif

enum { kMax = 256 };
struct tracee {
  pid_t pid;
  int number;   // in the order of their making
  int in_call;  // between a system call's two stops
  int fails;    // the call that is being skipped fails
  long calls;
};
static struct tracee tracees[kMax];
static int used;

static struct tracee* find(pid_t pid) {
  for (int i = 0; i < used; ++i) {
    if (tracees[i].pid == pid) return &tracees[i];
  }
  if (used == kMax) exit(99);
  tracees[used] = (struct tracee){.pid = pid, .number = used};
  return &tracees[used++];
}

static int makes(const struct user_regs_struct* r) {
  switch (r->orig_rax) {
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
    case SYS_mkdir:
    case SYS_mkdirat:
    case SYS_mknod:
    case SYS_mknodat:
    case SYS_symlink:
    case SYS_symlinkat:
    case SYS_rename:
    case SYS_renameat:
    case SYS_renameat2:
    case SYS_link:
    case SYS_linkat:
    case SYS_ftruncate:
    case SYS_fallocate:
    case SYS_sendfile:
    case SYS_copy_file_range:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_mount:
    case SYS_move_mount:
    case SYS_pivot_root:
    case SYS_unshare:
    case SYS_clone3:
    case SYS_bind:
    case SYS_bpf:
    case SYS_fsopen:
    case SYS_open_tree:
    case SYS_fsmount:
    case SYS_fsconfig:
    case SYS_mount_setattr:
      return 1;
    case SYS_open:
      return (r->rsi & O_CREAT) != 0;
    case SYS_openat:
      return (r->rdx & O_CREAT) != 0;
    case SYS_openat2:
      return 1;
    default:
      return 0;
  }
}

static int gives_descriptor(const struct user_regs_struct* r) {
  switch (r->orig_rax) {
    case SYS_open:
    case SYS_openat:
    case SYS_openat2:
    case SYS_socket:
    case SYS_socketpair:
    case SYS_accept:
    case SYS_accept4:
    case SYS_pipe:
    case SYS_pipe2:
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
    case SYS_eventfd2:
    case SYS_memfd_create:
    case SYS_pidfd_open:
    case SYS_pidfd_getfd:
    case SYS_clone3:
    case SYS_open_tree:
    case SYS_fsopen:
    case SYS_fsmount:
    case SYS_epoll_create1:
    case SYS_inotify_init1:
    case SYS_signalfd4:
    case SYS_timerfd_create:
    case SYS_bpf:
    case SYS_recvmsg:
      return 1;
    case SYS_fcntl:
      return r->rsi == F_DUPFD || r->rsi == F_DUPFD_CLOEXEC;
    default:
      return 0;
  }
}

static int is_ours(pid_t pid) {
  char path[64], link[256];
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  const ssize_t n = readlink(path, link, sizeof link - 1);
  if (n < 0) return 1;
  link[n] = 0;
  const char* name = strrchr(link, '/');
  name = name != NULL ? name + 1 : link;
  return strncmp(name, "amphora", 7) == 0 || strncmp(name, "memfd:amphora", 13) == 0;
}

int main(int argc, char** argv) {
  if (argc < 6) return 98;
  const int err = strcmp(argv[1], "ENOSPC") == 0 ? ENOSPC : EMFILE;
  const int process = atoi(argv[2]);
  const long wanted = atol(argv[3]);
  const pid_t command = fork();
  if (command == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    execvp(argv[5], argv + 5);
    _exit(127);
  }
  int status = 0;
  waitpid(command, &status, 0);
  ptrace(PTRACE_SETOPTIONS, command, 0,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
             PTRACE_O_TRACEEXEC);
  find(command);
  ptrace(PTRACE_SYSCALL, command, 0, 0);
  long failed = -1;
  int code = 97;
  for (;;) {
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0) break;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (pid != command) continue;
      code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      break;
    }
    struct tracee* t = find(pid);
    const int stop = WSTOPSIG(status);
    const int event = status >> 16;
    int deliver = 0;
    if (stop == (SIGTRAP | 0x80)) {
      struct user_regs_struct r;
      ptrace(PTRACE_GETREGS, pid, 0, &r);
      t->in_call = !t->in_call;
      if (t->in_call) {
        if (err == ENOSPC ? makes(&r) : gives_descriptor(&r)) {
          ++t->calls;
          if (failed < 0 && t->number == process && t->calls == wanted) {
            failed = (long)r.orig_rax;
            t->fails = 1;
            r.orig_rax = (unsigned long long)-1;
            ptrace(PTRACE_SETREGS, pid, 0, &r);
          }
        }
      } else if (t->fails) {
        t->fails = 0;
        r.rax = (unsigned long long)-err;
        ptrace(PTRACE_SETREGS, pid, 0, &r);
      }
    } else if (event == PTRACE_EVENT_EXEC) {
      if (t->number != 0 && !is_ours(pid)) {
        ptrace(PTRACE_DETACH, pid, 0, 0);
        continue;
      }
    } else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
               event == PTRACE_EVENT_CLONE) {
      unsigned long made = 0;
      ptrace(PTRACE_GETEVENTMSG, pid, 0, &made);
      find((pid_t)made);
    } else if (event == 0 && stop != SIGSTOP && stop != SIGTRAP) {
      deliver = stop;
    }
    ptrace(PTRACE_SYSCALL, pid, 0, deliver);
  }
  FILE* report = fopen(argv[4], "w");
  if (report == NULL) return 96;
  for (int i = 0; i < used; ++i) fprintf(report, "%d %ld\n", tracees[i].number, tracees[i].calls);
  if (failed >= 0) fprintf(report, "failed %ld\n", failed);
  fclose(report);
  return code;
}
