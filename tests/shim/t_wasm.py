# SPDX-License-Identifier: Apache-2.0
"""wasm images through ctr (docs/testing.md, list 2). The same demo program exists as a native one, and
where both can be asked the answers are compared."""

import os
import time

from tests.support import lab as L
from tests.support.runner import Skip, check, contains, equal


def wasm(lab, *words, options=(), image=L.WASM, **more):
    """ctr run --rm of the image's /app.wasm with words as arguments."""
    return lab.run(L.AMPHORA, image, "/app.wasm", *words, options=list(options), **more)


def test_entrypoint_of_the_image(lab):
    r = lab.run(L.AMPHORA, L.WASM)
    equal((r.code, r.out), (2, ""))
    contains(r.err, "commands: echo")


def test_echo_and_stderr(lab):
    equal(wasm(lab, "echo", "some", "words").ok().out, "some words\n")
    r = wasm(lab, "err")
    equal((r.code, r.out, r.err), (0, "to stdout\n", "to stderr\n"))


def test_exit_code(lab):
    for code in (42, 0, 1, 255):
        equal(wasm(lab, "exit", str(code)).code, code, f"exit {code}")


def test_arguments(lab):
    equal(wasm(lab, "args", "a b", "", "--c=d").ok().out,
          "/app.wasm\nargs\na b\n\n--c=d\n")


def test_environment_is_the_process_env_exactly(lab):
    options = ["--env", "A=b c", "--env", "E="]
    native = lab.run(L.AMPHORA, L.MIXED, "/bin/demo", "env", options=options).ok().out
    guest = lab.run(L.AMPHORA, L.MIXED, "/app.wasm", "env", options=options).ok().out
    # A native program gets HOME as well, as under runc.
    equal(guest, native.replace("HOME=/root\n", ""), "wasm beside native")
    contains(guest, "A=b c\nE=\n")
    contains(wasm(lab, "env").ok().out, "FROM_IMAGE=yes\n")


def test_stdin_to_its_end(lab):
    text = "".join(f"line {i}\n" for i in range(20000))
    r = wasm(lab, "cat", stdin=text)
    check(r.code == 0 and r.out == text, f"exit {r.code}, {len(r.out)} of {len(text)} bytes, {r.err}")


def test_sleep(lab):
    r = wasm(lab, "sleep", "1").ok()
    check(r.seconds >= 1, f"ended after {r.seconds} s")


def test_daemon_runs_until_killed(lab):
    task = lab.attached(L.AMPHORA, L.WASM, "/app.wasm", "daemon")
    equal(task.first, "tick 1\n")
    lab.ctr("task", "kill", "-s", "SIGTERM", task.id).ok()
    equal(task.wait(5).code, 143)


def test_files_of_the_root(lab):
    listed = set(wasm(lab, "ls", "/").ok().out.split())
    check({"app.wasm", "etc", "home", "tmp"} <= listed, f"ls /: {listed}")
    equal(wasm(lab, "read", "/etc/shared").ok().out, "for all\n")
    r = wasm(lab, "read", "/no/such/file")
    equal(r.code, 1)
    contains(r.err, "/no/such/file")


def test_permissions_hold_for_the_user(lab):
    equal(wasm(lab, "read", "/etc/secret").ok().out, "for root only\n")
    image = lab.wasm_as("1000:1000")
    r = lab.run(L.AMPHORA, image, "/app.wasm", "write", "/etc/passwd", "x")
    check(r.code == 1 and "/etc/passwd" in r.err, f"uid 1000 wrote /etc/passwd: {r!r}")
    r = lab.run(L.AMPHORA, image, "/app.wasm", "write", "/tmp/mine", "x")
    equal((r.code, r.err), (0, ""))


def test_write_into_a_mount(lab):
    os.makedirs(L.LAB + "/wasm-share", exist_ok=True)
    mount = f"type=bind,src={L.LAB}/wasm-share,dst=/m,options=rbind:"
    wasm(lab, "write", "/m/file", "two", "words", options=["--mount", mount + "rw"]).ok()
    with open(L.LAB + "/wasm-share/file", encoding="utf-8") as f:
        equal(f.read(), "two words\n")
    r = wasm(lab, "write", "/m/other", "x", options=["--mount", mount + "ro"])
    equal(r.code, 1)
    contains(r.err, "/m/other")
    check(not os.path.exists(L.LAB + "/wasm-share/other"), "a read-only mount was written")


def test_read_only_root(lab):
    r = wasm(lab, "write", "/data/x", "x", options=["--read-only"])
    equal(r.code, 1)
    contains(r.err, "/data/x")


def test_nothing_outside_the_root_is_seen(lab):
    with open("/run/outside", "w", encoding="utf-8") as f:
        f.write("outside\n")
    try:
        for path in ("/run/outside", "../../../../run/outside", "/../run/outside", "/proc/1/root/run/outside"):
            r = wasm(lab, "read", path)
            check(r.code != 0 and "outside\n" not in r.out, f"{path} was read: {r!r}")
    finally:
        os.unlink("/run/outside")


def test_working_directory(lab):
    os.makedirs(L.LAB + "/wasm-cwd", exist_ok=True)
    r = wasm(lab, "write", "relative", "here", options=[
        "--cwd", "/m", "--mount", f"type=bind,src={L.LAB}/wasm-cwd,dst=/m,options=rbind:rw"])
    equal((r.code, r.err), (0, ""))
    check(os.path.exists(L.LAB + "/wasm-cwd/relative"), "a relative path was not taken from the working directory")


def test_trap_prints_text_and_backtrace(lab):
    r = wasm(lab, "trap")
    equal((r.code, r.out), (134, ""))
    contains(r.err, "unreachable")
    check("inner_function" in r.err or "outer_function" in r.err, f"no function named in the backtrace: {r.err}")


def test_an_export_called_by_name(lab):
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm#named")
    equal((r.code, r.out), (0, "named export\n"))
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm#nothing")
    check(r.code != 0 and "nothing" in r.err, f"a missing export: {r!r}")


def test_text_module(lab):
    r = lab.run(L.AMPHORA, L.WASM, "/exit7.wat")
    equal((r.code, r.err), (7, ""))


def test_found_on_the_containers_path(lab):
    equal(lab.run(L.AMPHORA, L.WASM, "tool.wasm", "echo", "found").ok().out, "found\n")


def test_any_name_will_do(lab):
    equal(lab.run(L.AMPHORA, L.WASM, "/plain-name", "echo", "bytes", "decide").ok().out, "bytes decide\n")


def test_big_go_module(lab):
    if not os.path.exists(L.GUESTS + "/hello-go.wasm"):
        raise Skip("no Go on this machine, so no Go module")
    for _ in range(2):
        equal(lab.run(L.AMPHORA, L.WASM, "/hello-go.wasm").ok().out, "hello from go\nargv[0] /hello-go.wasm\n")


def test_large_output(lab):
    path = L.LAB + "/wasm-big"
    os.makedirs(path, exist_ok=True)
    with open(path + "/file", "wb") as f:
        f.write(os.urandom(1 << 20) * 8)
    r = wasm(lab, "read", "/m/file", options=["--mount", f"type=bind,src={path},dst=/m,options=rbind:ro"])
    equal(r.code, 0)


def test_native_program_exec_in_a_wasm_container(lab):
    id = lab.detached(L.AMPHORA, L.MIXED, "/app.wasm", "daemon")
    r = lab.ctr("task", "exec", "--exec-id", "e1", id, "sh", "-c", "echo native; readlink /proc/1/exe; exit 4")
    equal((r.code, r.out.splitlines()[0]), (4, "native"))
    r = lab.ctr("task", "exec", "--exec-id", "e2", id, "/app.wasm", "echo", "wasm", "too")
    equal((r.code, r.out), (0, "wasm too\n"))
    lab.end(id)


def test_wasm_exec_in_a_native_container(lab):
    id = lab.detached(L.AMPHORA, L.MIXED, "/bin/demo", "pause")
    r = lab.ctr("task", "exec", "--exec-id", "e1", id, "/app.wasm", "exit", "11")
    equal((r.code, r.err), (11, ""))
    lab.end(id)


def test_task_verbs(lab):
    id = lab.detached(L.AMPHORA, L.WASM, "/app.wasm", "daemon")
    check(len(lab.ctr("task", "ps", id).ok().out.splitlines()) == 2, "one process is listed")
    lab.ctr("task", "pause", id).ok()
    equal(lab.task_status(id), "PAUSED")
    lab.ctr("task", "resume", id).ok()
    equal(lab.task_status(id), "RUNNING")
    contains(lab.ctr("task", "metrics", id).ok().out, "memory")
    lab.end(id)


def test_terminal(lab):
    r = L.on_terminal(["ctr", "run", "--rm", "-t", "--runtime", L.AMPHORA, L.WASM, lab.new_id(),
                       "/app.wasm", "cat"], b"typed\r\x04", delay=1, env=lab.env)
    equal(r.code, 0)
    contains(r.out, "typed")


def test_a_busy_loop_ends_on_sigterm_within_a_second(lab):
    task = lab.attached(L.AMPHORA, L.WASM, "/app.wasm", "spin")
    begun = time.monotonic()
    lab.ctr("task", "kill", "-s", "SIGTERM", task.id).ok()
    equal(task.wait(5).code, 143)
    check(time.monotonic() - begun < 1, f"took {time.monotonic() - begun:.2f} s")


def test_a_busy_loop_ends_on_sigkill(lab):
    task = lab.attached(L.AMPHORA, L.WASM, "/app.wasm", "spin")
    lab.ctr("task", "kill", "-s", "SIGKILL", task.id).ok()
    equal(task.wait(5).code, 137)
