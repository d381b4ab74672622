/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: the least a container start can cost on this kernel. clone3 into the default bundle's
 * namespaces, its mounts, pivot_root, exec, wait: nothing is checked, read, planned, limited or
 * recorded. floor [--all] ROOTFS PROGRAM; --all adds what the default bundle has beside mounts:
 * device nodes, links, masked and read-only paths, hostname, capabilities dropped by nobody. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char* const kHierarchies[] = {"cpu",     "cpuacct", "cpuset", "memory", "devices",
                                           "freezer", "blkio",   "pids",   "systemd"};
static const char* const kMasked[] = {"acpi",        "asound",        "kcore",
                                      "keys",        "latency_stats", "timer_list",
                                      "timer_stats", "sched_debug",   "scsi"};
static const char* const kReadOnly[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
static const struct {
  const char* name;
  int major, minor;
} kNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
              {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static void mounts(void) {
  const unsigned long quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
  mount("proc", "proc", "proc", 0, NULL);
  mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
  mkdir("dev/pts", 0755);
  mkdir("dev/shm", 0755);
  mkdir("dev/mqueue", 0755);
  mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5");
  mount("shm", "dev/shm", "tmpfs", quiet, "mode=1777,size=65536k");
  mount("mqueue", "dev/mqueue", "mqueue", quiet, NULL);
  mount("sysfs", "sys", "sysfs", quiet | MS_RDONLY, NULL);
  mount("cgroup", "sys/fs/cgroup", "tmpfs", quiet, "mode=755");
  for (size_t i = 0; i < sizeof kHierarchies / sizeof *kHierarchies; i++) {
    char from[64], to[64];
    snprintf(from, sizeof from, "/sys/fs/cgroup/%s", kHierarchies[i]);
    snprintf(to, sizeof to, "sys/fs/cgroup/%s", kHierarchies[i]);
    mkdir(to, 0755);
    mount(from, to, NULL, MS_BIND, NULL);
  }
}

static void the_rest(void) {
  char path[64];
  for (size_t i = 0; i < sizeof kNodes / sizeof *kNodes; i++) {
    snprintf(path, sizeof path, "/dev/%s", kNodes[i].name);
    mknod(path, S_IFCHR | 0666, makedev((unsigned)kNodes[i].major, (unsigned)kNodes[i].minor));
  }
  (void)!symlink("/proc/self/fd", "/dev/fd");
  (void)!symlink("/proc/self/fd/0", "/dev/stdin");
  (void)!symlink("/proc/self/fd/1", "/dev/stdout");
  (void)!symlink("/proc/self/fd/2", "/dev/stderr");
  for (size_t i = 0; i < sizeof kMasked / sizeof *kMasked; i++) {
    snprintf(path, sizeof path, "/proc/%s", kMasked[i]);
    if (mount("/dev/null", path, NULL, MS_BIND, NULL) != 0)
      mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL);
  }
  for (size_t i = 0; i < sizeof kReadOnly / sizeof *kReadOnly; i++) {
    snprintf(path, sizeof path, "/proc/%s", kReadOnly[i]);
    mount(path, path, NULL, MS_BIND, NULL);
    mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
  }
  (void)!sethostname("floor", 5);
}

int main(int argc, char** argv) {
  const int all = argc > 1 && strcmp(argv[1], "--all") == 0;
  if (argc < 3 + all) return 2;
  char** words = argv + 1 + all;
  struct clone_args args = {
      .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
      .exit_signal = SIGCHLD};
  const long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) {
    perror("floor: clone3");
    return 1;
  }
  if (pid > 0) {
    int status = 0;
    waitpid((pid_t)pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mount(words[0], words[0], NULL, MS_BIND | MS_REC, NULL);
  if (chdir(words[0]) != 0) _exit(3);
  mounts();
  if (syscall(SYS_pivot_root, ".", ".") != 0) _exit(4);
  umount2(".", MNT_DETACH);
  if (chdir("/") != 0) _exit(5);
  if (all) the_rest();
  char* const environment[] = {"PATH=/bin", NULL};
  execve(words[1], words + 1, environment);
  _exit(127);
}
