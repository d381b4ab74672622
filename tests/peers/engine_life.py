# SPDX-License-Identifier: Apache-2.0
"""The engine's cases, second part: containers that live, exec, shared namespaces. wasm_ cases take image and
program, and are compared between kinds."""

import os
import re

from tests.peers.engine_cases import SLEEP, TRAP, both, cases_of, lines, shared_directory
from tests.support.runner import eventually

# ---- a container that lives

def detached_and_logs(e):
    name = e.started("sh", "-c", "echo to stdout; echo to stderr >&2; seq 1 2000; exit 4")
    e.until(name, "exited")
    r = e("logs", name)
    tail = e("logs", "--tail", "2", name)
    return r.code, len(r.out.splitlines()), r.err, tail.out, e.inspect(name, "{{.State.ExitCode}}")


def wait_for_exit(e):
    name = e.started("sh", "-c", "sleep 0.5; exit 6")
    return both(e("wait", name))


def stop(e):
    name = e.started(*TRAP)
    eventually(lambda: "up" in e("logs", name).out, 10, "it is up", 0.1)
    code = e("stop", "-t", "10", name).code
    return code, e.inspect(name, "{{.State.Status}} {{.State.ExitCode}}"), "got TERM" in e("logs", name).out


def stop_ignored(e):
    name = e.started("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    code = e("stop", "-t", "1", name).code
    return code, e.inspect(name, "{{.State.Status}} {{.State.ExitCode}}")


def stop_signal(e):
    name = e.started("sh", "-c", "trap 'exit 8' QUIT; echo up; while :; do sleep 0.1; done", options=["--stop-signal", "SIGQUIT"])
    eventually(lambda: "up" in e("logs", name).out, 10, "it is up", 0.1)
    return e("stop", "-t", "10", name).code, e.inspect(name, "{{.State.ExitCode}}")


def kill_signals(e):
    name = e.started(*TRAP)
    eventually(lambda: "up" in e("logs", name).out, 10, "it is up", 0.1)
    code = e("kill", "-s", "USR1", name).code
    eventually(lambda: "got USR1" in e("logs", name).out, 10, "the signal arrives", 0.1)
    running = e.inspect(name, "{{.State.Status}}")
    e("kill", name).ok()
    e.until(name, "exited")
    return code, running, e.inspect(name, "{{.State.ExitCode}}")


def kill_stopped(e):
    name = e.started("true")
    e.until(name, "exited")
    return e("kill", name).code != 0


def pause_and_unpause(e):
    name = e.started("sh", "-c", "while :; do date +%s%N >> /tmp/beat; sleep 0.05; done")
    code = e("pause", name).code
    paused = e.inspect(name, "{{.State.Status}}")
    refused = e("exec", name, "true").code != 0
    again = e("unpause", name).code
    first = e("exec", name, "wc", "-l", "/tmp/beat").ok().out
    eventually(lambda: e("exec", name, "wc", "-l", "/tmp/beat").out != first, 10, "it goes on", 0.1)
    return code, paused, refused, again, e.inspect(name, "{{.State.Status}}")


def restart(e):
    name = e.started("sh", "-c", "echo begun; exec sleep 1000")
    code = e("restart", "-t", "0", name).code
    eventually(lambda: e("logs", name).out.count("begun") == 2, 10, "it begins again", 0.1)
    return code, e.inspect(name, "{{.State.Status}}")


def create_start_attached(e):
    name = e.new_name()
    e("create", *e.runtime["options"], *e.run_options, "--name", name, "localhost/amphora-native:1", "sh", "-c",
      "echo attached; exit 5").ok()
    return both(e("start", "-a", name))


def top(e):
    name = e.started(*SLEEP)
    return "sleep 1000" in e("top", name).ok().out


def init(e):
    r = e.run("sh", "-c", "cat /proc/1/comm; sleep 0.1 & wait; echo done", options=["--init"])
    return both(r)


def healthy(e):
    return _health(e, "true")


def unhealthy(e):
    return _health(e, "exit 3")


def _health(e, command):
    name = e.started(*SLEEP, options=["--health-cmd", command, "--health-retries", "1", *e.health_options])
    if e.name == "podman":
        code = e("healthcheck", "run", name).code
        return code, e.inspect(name, "{{.State.Health.Status}}")
    eventually(lambda: e.inspect(name, "{{.State.Health.Status}}") != "starting", 20, "a verdict", 0.2)
    return e.inspect(name, "{{.State.Health.Status}}")


# ---- exec

def exec_output(e):
    name = e.started(*SLEEP)
    r = e("exec", name, "sh", "-c", "echo out; echo err >&2; exit 5")
    return r.code, r.out, r.err


def exec_stdin(e):
    name = e.started(*SLEEP)
    return both(e("exec", "-i", name, "wc", "-c", stdin="x" * 100000))


def exec_user_env_cwd(e):
    name = e.started(*SLEEP)
    return both(e("exec", "-u", "1000:33", "-e", "A=b c", "-w", "/tmp", name, "sh", "-c", "id; echo $A; pwd"))


def exec_status(e):
    name = e.started(*SLEEP, options=["--cap-drop", "CHOWN"])
    keys = ("Uid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return lines(e("exec", name, "cat", "/proc/self/status").ok().out, *keys)


def exec_privileged(e):
    name = e.started(*SLEEP)
    return lines(e("exec", "--privileged", name, "cat", "/proc/self/status").ok().out, "CapPrm", "CapEff", "CapBnd")


def exec_terminal(e):
    name = e.started(*SLEEP)
    r = e("exec", "-t", name, "sh", "-c", "test -t 1 && echo terminal; tty")
    return r.code, re.sub(r"\d+", "N", r.out.replace("\r", ""))


def exec_detached(e):
    name = e.started(*SLEEP)
    code = e("exec", "-d", name, "sh", "-c", "echo ran > /tmp/ran").code
    eventually(lambda: e("exec", name, "cat", "/tmp/ran").out == "ran\n", 10, "it runs", 0.1)
    return code


def exec_missing_program(e):
    name = e.started(*SLEEP)
    return [e("exec", name, word).code for word in ("/no/such", "no-such", "/etc/passwd")]


def exec_stopped(e):
    name = e.started("true")
    e.until(name, "exited")
    return e("exec", name, "true").code != 0


def exec_many(e):
    name = e.started(*SLEEP)
    return [e("exec", name, "sh", "-c", f"exit {n}").code for n in range(6)]


# ---- namespaces

def pid_host(e):
    return int(e.run("sh", "-c", "echo $$", options=["--pid", "host"]).ok().out) > 1


def ipc_and_uts_host(e):
    r = e.run("sh", "-c", "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts", options=["--ipc", "host", "--uts", "host"])
    return r.out == os.readlink("/proc/self/ns/ipc") + "\n" + os.readlink("/proc/self/ns/uts") + "\n"


def joins_another(e):
    name = e.started(*SLEEP)
    options = [f"--{kind}=container:{name}" for kind in ("pid", "ipc")]
    r = e.run("sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '", options=options)
    return both(r)


CASES = cases_of(globals(), __name__)


# ---- wasm beside native, by image and program

def wasm_echo(e, image, program):
    return both(e.run("echo", "a", "b c", image=image, options=["--entrypoint", program]))


def wasm_exit(e, image, program):
    return e.run("exit", "42", image=image, options=["--entrypoint", program]).code


def wasm_stdin(e, image, program):
    return both(e.run("cat", image=image, options=["-i", "--entrypoint", program], stdin="one\ntwo\n" * 500))


def wasm_volume(e, image, program):
    path = shared_directory(e)
    code = e.run("write", "/v/by-guest", "some", "words", image=image, options=["--entrypoint", program, "-v", f"{path}:/v"]).code
    with open(path + "/by-guest", encoding="utf-8") as f:
        return code, f.read()


def wasm_stop(e, image, program):
    name = e.started("daemon", image=image, options=["--entrypoint", program])
    code = e("stop", "-t", "2", name).code
    # pid 1 without a handler ignores SIGTERM: 137 after the grace. A guest has one: 143 at once.
    want = {"/bin/demo": "137", "/app.wasm": "143"}[program]
    return code, e.inspect(name, "{{.State.Status}}"), e.inspect(name, "{{.State.ExitCode}}") == want


def wasm_kill(e, image, program):
    name = e.started("daemon", image=image, options=["--entrypoint", program])
    e("kill", name).ok()
    e.until(name, "exited")
    return e.inspect(name, "{{.State.ExitCode}}")


def wasm_pause(e, image, program):
    name = e.started("daemon", image=image, options=["--entrypoint", program])
    e("pause", name).ok()
    paused = e.inspect(name, "{{.State.Status}}")
    e("unpause", name).ok()
    return paused, e.inspect(name, "{{.State.Status}}")


def wasm_logs(e, image, program):
    name = e.started("echo", "for the log", image=image, options=["--entrypoint", program])
    e.until(name, "exited")
    return e("logs", name).out


def wasm_read_only(e, image, program):
    r = e.run("write", "/tmp-file", "x", image=image, options=["--entrypoint", program, "--read-only"])
    return r.code != 0


WASM_CASES = [(name, value) for name, value in list(globals().items())
              if name.startswith("wasm_") and callable(value)]
