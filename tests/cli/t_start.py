# SPDX-License-Identifier: Apache-2.0
"""What a start may cost, by behaviour and not by time: system calls of `run` and `exec`, peak memory, and
how small a memory limit a container can start under. docs/performance.md has the figures."""

import os
import signal
import subprocess
import tempfile
import time

from tests.support import lab as L
from tests.support.command import NATIVE, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal, eventually

# For ten hierarchies; every one less costs seven calls less in `run` and two in `exec`. The bar of `run` is
# the project's; those of exec and memory hold what is reached (docs/performance.md has the aims).
RUN_CALLS = 350
EXEC_CALLS = 200
PEAK_KB = 4000


def calls(lab, *argv):
    """System calls of argv, its children included, and its exit code."""
    with tempfile.NamedTemporaryFile("r", dir=L.LAB, suffix=".calls") as out:
        code = subprocess.run(["strace", "-f", "-c", "-U", "calls,name", "-o", out.name, *argv], env=lab.env, timeout=60, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode
        total = [line.split() for line in out.read().splitlines() if line.rstrip().endswith("total")]
        return int(total[0][0]) if total else 0, code


def need_strace(lab):
    try:
        count, code = calls(lab, "true")
    except OSError as error:
        raise Skip(f"strace cannot be run: {error}") from None
    if code != 0 or count == 0:
        raise Skip("strace cannot trace a process here (ptrace is not allowed)")


def test_system_calls_of_run(lab):
    need_strace(lab)
    cli = Cli(lab)
    id, path = cli.bundle("/bin/true0")
    command = [cli.name, "--root", cli.root, "run", "-b", path, id]
    equal(subprocess.run(command, env=lab.env, check=False).returncode, 0, "an untraced run")
    count, code = calls(lab, *command)
    equal(code, 0, "a traced run")
    print(f"       run: {count} system calls")
    check(50 < count <= RUN_CALLS, f"{count} system calls, at most {RUN_CALLS}")


def test_system_calls_of_exec(lab):
    need_strace(lab)
    cli = Cli(lab)
    id = cli.running(*kind_args(NATIVE, "pause"))
    count, code = calls(lab, cli.name, "--root", cli.root, "exec", id, "/bin/true0")
    equal(code, 0, "a traced exec")
    print(f"       exec: {count} system calls")
    check(50 < count <= EXEC_CALLS, f"{count} system calls, at most {EXEC_CALLS}")
    cli.end(id)


def peak_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def test_peak_memory_of_run(lab):
    cli = Cli(lab)
    id, path = cli.bundle(*kind_args(NATIVE, "pause"))
    process = subprocess.Popen([cli.name, "--root", cli.root, "run", "-b", path, id], env=lab.env, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: cli("state", id).code == 0 and cli.status(id) == "running", 10, f"{id} runs")
        peak = peak_kb(process.pid)
    finally:
        process.send_signal(signal.SIGKILL if process.poll() is None and cli("state", id).code != 0 else signal.SIGTERM)
        cli("kill", id, "KILL")
        process.wait(20)
    print(f"       run: peak {peak} kB")
    check(500 < peak <= PEAK_KB, f"peak of {peak} kB, at most {PEAK_KB}")


def limited(bytes):
    def change(spec):
        spec["linux"]["resources"]["memory"] = {"limit": bytes}
    return change


def test_a_container_starts_under_1_mib(lab):
    cli = Cli(lab)
    cli.needs_controller("memory")
    for _ in range(5):
        r = cli.run("/bin/true0", change=limited(1 << 20))
        equal((r.code, r.err), (0, ""), "under 1 MiB")


def test_too_small_a_limit_starts_or_is_named(lab):
    cli = Cli(lab)
    cli.needs_controller("memory")
    r = cli.run("/bin/true0", change=limited(64 << 10))
    if r.code != 0:
        contains(r.err, "OOM-killed")
        check(cli("state", cli.ids[-1]).code != 0, "the failed container is left")
