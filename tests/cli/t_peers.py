# SPDX-License-Identifier: Apache-2.0
"""What the peers' suites and engines found: seccomp profiles older than the system calls that our set-up
likes, a root on a shared mount, signals that the caller ignores."""

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import contains, equal

# A profile as of Linux 4.x knows neither close_range nor faccessat2 nor openat2; all else is allowed by name.
OLD = ("access arch_prctl brk capget capset chdir clone close dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait "
       "execve exit exit_group faccessat fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid "
       "getpid getppid getrandom getuid ioctl lseek lstat mmap mprotect munmap newfstatat open openat pipe pipe2 "
       "poll ppoll prctl pread64 prlimit64 read readlink readlinkat recvfrom recvmsg rt_sigaction "
       "rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendmsg sendto set_robust_list "
       "set_tid_address setgid setgroups setresgid setresuid setuid sigaltstack stat statfs tgkill time uname "
       "wait4 write writev accept4 accept rseq umask").split()


def old_profile(no_new_privs):
    def change(spec):
        spec["process"]["noNewPrivileges"] = no_new_privs
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
                                    "syscalls": [{"names": OLD, "action": "SCMP_ACT_ALLOW"}]}
    return change


def test_old_profile_with_no_new_privs(lab):
    r = Cli(lab).run("/bin/echo", "hello", change=old_profile(True)).ok()
    equal(r.out, "hello\n")


def test_old_profile_without_no_new_privs(lab):
    r = Cli(lab).run("/bin/echo", "hello", change=old_profile(False)).ok()
    equal(r.out, "hello\n")


def test_old_profile_and_a_missing_program(lab):
    r = Cli(lab).run("/bin/nothing", change=old_profile(False))
    equal(r.code, 1)
    contains(r.err, "no such file or directory")


def test_old_profile_closes_descriptors(lab):
    """Marked before the filter, which then knows no close_range."""
    r = Cli(lab).run("ls", "/proc/self/fd", change=old_profile(False)).ok()
    equal(sorted(r.out.split())[:3], ["0", "1", "2"])
    equal(len(r.out.split()), 4)  # and the directory itself


def test_shared_root_on_a_shared_mount(lab):
    """The image's mount is shared with the host's: pivot_root refuses such a put_old."""
    def change(spec):
        spec["linux"]["rootfsPropagation"] = "shared"
    r = Cli(lab).run("sh", "-c", "grep ' / / \\| /[^ ]* / ' /proc/self/mountinfo | head -n 1", change=change).ok()
    contains(r.out, "shared:")


def test_ignored_signals_are_the_callers(lab):
    """nohup and a shell's background job ignore some: a container begins with the defaults, as with runc."""
    for name in ("runc", "amphora"):
        cli = Cli(lab, name)
        id, path = cli.bundle("grep", "SigIgn", "/proc/self/status")
        r = L.command(["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh", name, "--root", cli.root, "run", "-b", path,
                       id], env=lab.env).ok()
        equal(r.out.split()[1], "0" * 16, name)
