/* SPDX-License-Identifier: Apache-2.0 */
/* The attacker of the security tests, static and native: races of names, prying into other processes
 * of the pid namespace, and, on our own side, a sandbox in which openat2 does not exist. One verb each;
 * what an attack reached is printed, one line a thing, and its end is always by SIGTERM or by time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static int seconds_over(time_t end) { return end != 0 && time(NULL) >= end; }

/* race A B [A B]...: exchanges each pair of names for ever. */
static int race(int count, char** names) {
  for (;;) {
    for (int i = 0; i + 1 < count; i += 2) {
      syscall(SYS_renameat2, AT_FDCWD, names[i], AT_FDCWD, names[i + 1], RENAME_EXCHANGE);
    }
  }
}

static int run_filtered(struct sock_filter* code, unsigned short size, char** command) {
  struct sock_fprog program = {size, code};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    perror("seccomp");
    return 1;
  }
  execvp(command[0], command);
  perror(command[0]);
  return 127;
}

/* no-openat2 COMMAND...: runs COMMAND where openat2 answers ENOSYS. */
static int no_openat2(char** command) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return run_filtered(code, sizeof code / sizeof *code, command);
}

/* no-pidns COMMAND...: runs COMMAND where procfs has no option "pidns" (before Linux 6.17): fsconfig
 * refuses every FSCONFIG_SET_FD. */
static int no_pidns(char** command) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsconfig, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5 /* FSCONFIG_SET_FD */, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return run_filtered(code, sizeof code / sizeof *code, command);
}

/* Whether the directory that `path` leads to holds `needle`, which only the host's tree has. */
static int holds(const char* path, const char* needle) {
  int dir = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
  if (dir < 0) return 0;
  int found = faccessat(dir, needle, F_OK, 0) == 0;
  close(dir);
  return found;
}

static void look_at(const char* pid, const char* needle) {
  char path[300];
  const char* const plain[] = {"root", "cwd"};
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "/proc/%s/%s", pid, plain[i]);
    if (holds(path, needle)) printf("reached the host by %s\n", path);
  }
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR* fds = opendir(path);
  if (!fds) return;
  for (struct dirent* entry; (entry = readdir(fds));) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, entry->d_name);
    char target[200];
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    if (holds(path, needle)) printf("reached the host by %s (%s)\n", path, target);
    char deeper[400];
    snprintf(deeper, sizeof deeper, "%s/self/status", path);
    if (access(deeper, F_OK) == 0) printf("reached a procfs by %s (%s)\n", path, target);
    snprintf(deeper, sizeof deeper, "%s/cgroup.procs", path);
    if (strstr(target, "cgroup") || access(deeper, F_OK) == 0 ||
        strcmp(target + (n > 5 ? n - 5 : 0), "tasks") == 0) {
      int fd = open(path, O_WRONLY | O_NONBLOCK);
      if (fd >= 0 || access(deeper, F_OK) == 0)
        printf("reached a cgroup by %s (%s)\n", path, target);
      if (fd >= 0) close(fd);
    }
  }
  closedir(fds);
}

/* pry SECONDS NEEDLE: looks through every process but itself and pid 1, as often as it can, for a way
 * to the host's tree; tries to trace them as well. */
static int pry(int duration, const char* needle) {
  time_t end = time(NULL) + duration;
  long seen = 0;
  char self[16];
  snprintf(self, sizeof self, "%d", getpid());
  puts("prying");
  fflush(stdout);
  while (!seconds_over(end)) {
    DIR* all = opendir("/proc");
    if (!all) return 1;
    for (struct dirent* entry; (entry = readdir(all));) {
      if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
      if (strcmp(entry->d_name, self) == 0 || strcmp(entry->d_name, "1") == 0) continue;
      seen++;
      look_at(entry->d_name, needle);
    }
    closedir(all);
  }
  printf("saw %ld\n", seen);
  return 0;
}

/* overwrite SECONDS: opens /proc/PID/exe of every process for writing, again and again, also through
 * a descriptor held while the process ends (CVE-2019-5736). What could be opened is named; nothing of
 * our own kind (/bin/) is tried. */
static int overwrite(int duration) {
  time_t end = time(NULL) + duration;
  long tried = 0;
  puts("prying");
  fflush(stdout);
  while (!seconds_over(end)) {
    DIR* all = opendir("/proc");
    if (!all) return 1;
    for (struct dirent* entry; (entry = readdir(all));) {
      if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
      char path[300], target[300], held[64];
      snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
      int fd = open(path, O_PATH | O_CLOEXEC);
      if (fd < 0) continue;
      /* Of what is held, for the process may have become another program meanwhile. */
      snprintf(held, sizeof held, "/proc/self/fd/%d", fd);
      ssize_t n = readlink(held, target, sizeof target - 1);
      target[n > 0 ? n : 0] = '\0';
      if (n <= 0 || strncmp(target, "/bin/", 5) == 0) {
        close(fd);
        continue;
      }
      tried++;
      for (int i = 0; i < 50; i++) {
        int writable = open(held, O_WRONLY | O_CLOEXEC);
        if (writable >= 0) {
          printf("opened %s for writing\n", target);
          close(writable);
          break;
        }
        if (errno != ETXTBSY) break; /* it runs: wait for its end */
        usleep(200);
      }
      close(fd);
    }
    closedir(all);
  }
  printf("tried %ld\n", tried);
  return 0;
}

/* bomb: forks as fast as the limit lets it. */
static int bomb(void) {
  for (;;) {
    if (fork() < 0) usleep(100);
  }
}

int main(int argc, char** argv) {
  if (argc > 3 && strcmp(argv[1], "race") == 0) return race(argc - 2, argv + 2);
  if (argc > 2 && strcmp(argv[1], "no-openat2") == 0) return no_openat2(argv + 2);
  if (argc > 2 && strcmp(argv[1], "no-pidns") == 0) return no_pidns(argv + 2);
  if (argc > 3 && strcmp(argv[1], "pry") == 0) return pry(atoi(argv[2]), argv[3]);
  if (argc > 2 && strcmp(argv[1], "overwrite") == 0) return overwrite(atoi(argv[2]));
  if (argc > 1 && strcmp(argv[1], "bomb") == 0) return bomb();
  fprintf(stderr,
          "usage: attack race A B... | no-openat2 COMMAND... | no-pidns COMMAND... | pry SECONDS "
          "NAME | overwrite "
          "SECONDS | bomb\n");
  return 2;
}
