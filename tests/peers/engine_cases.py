# SPDX-License-Identifier: Apache-2.0
"""What people do with an engine, as cases for podman and docker alike: each returns what a user can observe, to
be compared between runtimes. Here: a run and what it shows; engine_life.py has containers that go on."""

import os
import re

from tests.support import lab as L

SLEEP = ("sleep", "1000")
TRAP = ("sh", "-c", "trap 'echo got TERM; exit 3' TERM; trap 'echo got USR1' USR1; echo up; while :; do sleep 0.1; done")


def both(r):
    return r.code, r.out


def lines(text, *keys):
    return {line.split(":", 1)[0]: line.split(":", 1)[1].strip() for line in text.splitlines()
            if line.split(":", 1)[0] in keys}


def status(e, *options, words=()):
    out = e.run(*words, "cat", "/proc/self/status", options=options).ok().out
    return lines(out, "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
                 "Seccomp", "Seccomp_filters", "NSpid", "Cpus_allowed_list", "SigBlk", "SigIgn")


def cgroup_file(e, name, *paths):
    """One limit as the container reads it: v1 path or v2 path, the first that is there."""
    script = " ".join(f"[ -e /sys/fs/cgroup/{p} ] && cat /sys/fs/cgroup/{p} && exit;" for p in paths)
    return e("exec", name, "sh", "-c", script + " echo absent").ok().out.strip()


# ---- run

def run_output(e):
    return both(e.run("echo", "hello", "world"))


def run_stderr(e):
    r = e.run("sh", "-c", "echo out; echo err >&2")
    return r.code, r.out, r.err


def run_stdin(e):
    return both(e.run("cat", options=["-i"], stdin="one\ntwo\n" * 2000))


def run_exit_code(e):
    return [e.run("sh", "-c", f"exit {n}").code for n in (0, 1, 42, 255)]


def run_missing_program(e):
    return e.run("/no/such/program").code


def run_missing_in_path(e):
    return e.run("no-such-program").code


def run_not_executable(e):
    return e.run("/etc/passwd").code


def run_directory(e):
    return e.run("/etc").code


def run_bad_option(e):
    return e.run("true", options=["--no-such-option"]).code


def run_missing_workdir_and_env(e):
    return both(e.run("sh", "-c", "pwd; echo $A-$B", options=["-w", "/made/now", "-e", "A=1", "--env", "B=2 3"]))


def run_environment(e):
    names = e.run("env").ok().out.splitlines()
    return sorted(re.sub(r"^(HOSTNAME)=.*", r"\1", n) for n in names)


def run_terminal(e):
    r = e.run("sh", "-c", "test -t 0 && test -t 1 && echo terminal; tty; ls -l /dev/console | cut -c1", options=["-t"])
    return r.code, r.out.replace("\r", "")


def run_on_a_terminal(e):
    name = e.new_name()
    r = L.on_terminal([*e.command, "run", "--rm", "-it", *e.runtime["options"], *e.run_options, "--name", name,
                       "localhost/amphora-native:1", "sh", "-c", "echo ready; read x; stty size; echo got $x; exit 9"],
                      typed=b"word\n", until=b"ready", env=e.env, size=(33, 99))
    return r.code, "33 99" in r.out, "got word" in r.out


def run_entrypoint(e):
    return both(e.run("-c", "echo by entrypoint", options=["--entrypoint", "/bin/sh"]))


def run_hostname(e):
    return both(e.run("hostname", options=["--hostname", "named"]))


def run_rm_leaves_nothing(e):
    name = e.new_name()
    e.run("true", name=name).ok()
    return e("ps", "-a", "-q", "--filter", f"name={name}").ok().out


# ---- as the kernel shows it

def shown_status(e):
    return status(e)


def shown_limits(e):
    return e.run("cat", "/proc/self/limits").ok().out


def shown_mounts(e):
    found = []
    for line in e.run("cat", "/proc/self/mountinfo").ok().out.splitlines():
        left, right = line.split(" - ")
        target, options = left.split()[4], left.split()[5]
        fs = right.split()[0]
        # Which null device or tmpfs masks a path is the runtime's affair.
        if target.startswith(("/proc/", "/sys/")):
            fs, options = "", "ro" if "ro" in options.split(",") else "rw"
        if target == "/sys/fs/cgroup":
            options = ""  # v1: the tmpfs of the hierarchies is read-only with us (docs/testing.md)
        elif target.startswith("/sys/fs/cgroup"):
            options = "ro" if "ro" in options.split(",") else "rw"
        found.append(f"{target} {fs} {','.join(sorted(options.split(',')))}")
    return sorted(set(found))


def shown_devices(e):
    return sorted(re.sub(r" +", " ", line).split(" ")[0] + " " + line.split()[-1]
                  for line in e.run("ls", "-l", "/dev").ok().out.splitlines()[1:])


def shown_processes(e):
    return e.run("sh", "-c", "set -- /proc/[0-9]*; echo $#").ok().out


def shown_namespaces(e):
    """Which namespaces are the container's own."""
    own = {}
    for line in e.run("sh", "-c", "for n in /proc/self/ns/*; do echo $n $(readlink $n); done").ok().out.splitlines():
        path, link = line.split()
        kind = path.rsplit("/", 1)[1]
        own[kind] = link != os.readlink(f"/proc/self/ns/{kind}")
    return own


# ---- privileges

def user_ids(e):
    return both(e.run("id", options=["--user", "1000:1000"]))


def user_by_name(e):
    return both(e.run("id", options=["--user", "someone"]))


def user_groups(e):
    return both(e.run("id", options=["--user", "1000", "--group-add", "123"]))


def user_status(e):
    return status(e, "--user", "1000")


def capabilities_added_and_dropped(e):
    return status(e, "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN")


def capabilities_none(e):
    return status(e, "--cap-drop", "ALL")


def capabilities_for_a_user(e):
    return status(e, "--cap-add", "SYS_PTRACE", "--user", "1000")


def no_new_privileges(e):
    return status(e, "--security-opt", "no-new-privileges")


def seccomp_unconfined(e):
    return status(e, "--security-opt", "seccomp=unconfined")


def seccomp_refuses(e):
    r = e.run("sh", "-c", "unshare -U true; echo $?; mount -t tmpfs t /tmp; echo $?")
    return r.code, r.out


def privileged(e):
    r = e.run("sh", "-c", "mount -t tmpfs t /tmp && echo mounted; [ -w /proc/sys/kernel/hostname ] && echo writable",
              options=["--privileged"])
    return both(r)


def privileged_status(e):
    return status(e, "--privileged")


def privileged_devices(e):
    return len(e.run("ls", "/dev", options=["--privileged"]).ok().out.split())


def read_only(e):
    r = e.run("sh", "-c", "echo x > /data/f; echo $?; echo x > /dev/shm/f; echo $?", options=["--read-only"])
    return r.code, r.out


def device(e):
    return both(e.run("sh", "-c", "ls -l /dev/fuse | cut -c1; : < /dev/fuse; echo $?", options=["--device", "/dev/fuse"]))


def device_not_given(e):
    return both(e.run("sh", "-c", "mknod /tmp/f c 10 229; : < /tmp/f; echo $?"))


def device_read_only(e):
    return both(e.run("sh", "-c", ": < /dev/zzz; echo $?; : > /dev/zzz; echo $?", options=["--device", "/dev/zero:/dev/zzz:r"]))


# ---- files

def shared_directory(e):
    path = f"{e.work}/shared-{e.runtime['label']}"
    os.makedirs(path, exist_ok=True)
    with open(path + "/in", "w", encoding="utf-8") as f:
        f.write("from outside\n")
    return path


def volume_bind(e):
    path = shared_directory(e)
    r = e.run("sh", "-c", "cat /v/in; echo inside > /v/out", options=["-v", f"{path}:/v"])
    with open(path + "/out", encoding="utf-8") as f:
        return r.code, r.out, f.read()


def volume_read_only(e):
    return both(e.run("sh", "-c", "cat /v/in; echo x > /v/new; echo $?", options=["-v", f"{shared_directory(e)}:/v:ro"]))


def volume_mount_option(e):
    return both(e.run("sh", "-c", "cat /v/in", options=["--mount", f"type=bind,src={shared_directory(e)},dst=/v,ro=true"]))


def volume_file(e):
    return both(e.run("cat", "/etc/one-file", options=["-v", f"{shared_directory(e)}/in:/etc/one-file:ro"]))


def volume_named(e):
    volume = "vol-" + e.runtime["label"]
    try:
        e.run("sh", "-c", "echo kept > /v/f", options=["-v", f"{volume}:/v"]).ok()
        return both(e.run("cat", "/v/f", options=["-v", f"{volume}:/v"]))
    finally:
        e("volume", "rm", "-f", volume)


def volume_propagation(e):
    """A mount made outside while the container runs is seen in an rslave volume."""
    path = shared_directory(e) + "/below"
    os.makedirs(path, exist_ok=True)
    name = e.started(*SLEEP, options=["-v", f"{shared_directory(e)}:/v:rslave"])
    L.command(["mount", "-t", "tmpfs", "t", path]).ok()
    try:
        with open(path + "/late", "w", encoding="utf-8") as f:
            f.write("late\n")
        return both(e("exec", name, "cat", "/v/below/late"))
    finally:
        L.command(["umount", path])


def tmpfs(e):
    return both(e.run("sh", "-c", "stat -f -c %T /t; stat -c %a /t; df -k /t | tail -n 1 | tr -s ' ' | cut -d' ' -f2",
                      options=["--tmpfs", "/t:rw,size=1m,mode=1770"]))


def shm_size(e):
    return both(e.run("sh", "-c", "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2", options=["--shm-size", "2m"]))


def copy(e):
    name = e.started(*SLEEP)
    e("cp", f"{shared_directory(e)}/in", f"{name}:/tmp/copied").ok()
    return both(e("exec", name, "cat", "/tmp/copied"))


# ---- limits

def limits(e):
    name = e.started(*SLEEP, options=["--memory", "64m", "--pids-limit", "20", "--cpus", "0.5", "--cpu-shares", "512"])
    return {"memory": cgroup_file(e, name, "memory/memory.limit_in_bytes", "memory.max"),
            "pids": cgroup_file(e, name, "pids/pids.max", "pids.max"),
            "quota": cgroup_file(e, name, "cpu/cpu.cfs_quota_us", "cpu.max"),
            "shares": cgroup_file(e, name, "cpu/cpu.shares", "cpu.weight")}


def pids_limit(e):
    r = e.run("sh", "-c", "i=0; while [ $i -lt 30 ]; do sleep 3 & i=$((i+1)); done; echo done", options=["--pids-limit", "10"])
    return r.code, "can't fork" in r.err


def out_of_memory(e):
    name = e.started("sh", "-c", "sleep 0.5; exec tail /dev/zero", options=["--memory", "24m", "--memory-swap", "24m"])
    e.until(name, "exited", 30)
    return e.inspect(name, "{{.State.ExitCode}} {{.State.OOMKilled}}")


def ulimit(e):
    return both(e.run("sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c", options=["--ulimit", "nofile=512:1024", "--ulimit", "core=0"]))


def sysctl(e):
    return both(e.run("cat", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/net/ipv4/ip_forward",
                      options=["--sysctl", "kernel.shm_rmid_forced=1", "--sysctl", "net.ipv4.ip_forward=1"]))


def cpuset(e):
    return status(e, "--cpuset-cpus", "0")


def update(e):
    name = e.started(*SLEEP, options=["--memory", "64m", "--memory-swap", "128m"])
    before = cgroup_file(e, name, "memory/memory.limit_in_bytes", "memory.max")
    r = e("update", "--memory", "32m", "--cpu-shares", "300", name)
    after = cgroup_file(e, name, "memory/memory.limit_in_bytes", "memory.max")
    return before, r.code, after, cgroup_file(e, name, "cpu/cpu.shares", "cpu.weight")


def stats(e):
    name = e.started(*SLEEP, options=["--memory", "64m"])
    text = e("stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}", name).ok().out.strip()
    memory, pids, cpu = text.split("\n")[-1].split("|")
    used, limit = memory.split(" / ")
    return {"limit": limit.strip(), "pids": pids.strip(), "cpu is a number": bool(re.match(r"[\d.]+%$", cpu.strip())),
            "uses memory": not re.match(r"^0[^.]*B", used.strip())}


def cases_of(names, module):
    """The cases among a module's names, in order."""
    helpers = ("both", "lines", "status", "cgroup_file", "cases_of", "shared_directory")
    return [(name, value) for name, value in list(names.items())
            if callable(value) and getattr(value, "__module__", None) == module and not name.startswith(("_", "wasm_"))
            and name not in helpers]


CASES = cases_of(globals(), __name__)
