# SPDX-License-Identifier: Apache-2.0
"""The command's verbs on a bundle of each kind (docs/testing.md, list 10); native ones beside runc."""

import json
import os
import time

from tests.shim.t_same import differences, normal
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, contains, equal, eventually

KINDS = (NATIVE, WASM)


def clis(lab):
    return [Cli(lab, name) for name in L.COMMANDS]


def test_run(lab):
    amphora = Cli(lab)
    for kind in KINDS:
        r = amphora.run(*kind_args(kind, "echo", "some", "words"))
        equal((r.code, r.out, r.err), (0, "some words\n", "exiting\n"), kind)
        equal(amphora.run(*kind_args(kind, "exit", "42")).code, 42, kind)
        r = amphora.run(*kind_args(kind, "err"))
        equal((r.out, r.err), ("to stdout\n", "to stderr\n"), kind)
        r = amphora.run(*kind_args(kind, "cat"), stdin="typed\n")
        equal((r.code, r.out), (0, "typed\n"), kind)
    equal(json.loads(amphora("list", "-f", "json").ok().out or "null") or [], [], "containers after run")


def test_run_is_what_runc_shows(lab):
    seen = {}
    for cli in clis(lab):
        r = cli.run("head", "-n", "300", "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/limits",
                    "/proc/self/environ", "/proc/self/uid_map", "/proc/self/status")
        equal(r.code, 0, r.err)
        seen[cli.name] = normal(r.out, cli.ids[-1])
    different = differences(seen[L.COMMANDS[0]], seen[L.COMMANDS[-1]])
    check(not different, "runc (-) and amphora (+):\n      " + "\n      ".join(different[:40]))


def test_lifecycle(lab):
    for cli in clis(lab):
        for kind in KINDS if cli.name == "amphora" else (NATIVE,):
            id = cli.create(*kind_args(kind, "sleep", "1000"))
            s = cli.state(id)
            equal((s["id"], s["status"]), (id, "created"), f"{cli.name} {kind}")
            check(os.path.exists(f"/proc/{s['pid']}"), f"{cli.name} {kind}: pid {s['pid']}")
            check(s["bundle"].endswith(id), f"{cli.name} {kind}: bundle {s['bundle']}")
            cli("start", id).ok()
            equal(cli.status(id), "running", f"{cli.name} {kind}")
            r = cli("delete", id)
            check(r.code != 0 and "not stopped" in r.err, f"{cli.name} {kind}: delete of a running container: {r!r}")
            cli("kill", id, "KILL").ok()
            cli.until(id, "stopped")
            r = cli("kill", id, "KILL")
            check(r.code != 0, f"{cli.name} {kind}: kill of a stopped container succeeded")
            contains(r.err, "not running")
            cli("delete", id).ok()
            r = cli("state", id)
            check(r.code != 0 and "does not exist" in r.err, f"{cli.name} {kind}: state of a deleted container: {r!r}")


def test_start_twice_create_twice(lab):
    for cli in clis(lab):
        id = cli.running(*kind_args(NATIVE, "pause"))
        r = cli("start", id)
        check(r.code != 0, f"{cli.name}: a second start succeeded")
        r = cli("create", "-b", f"{L.LAB}/bundles/{id}", id)
        check(r.code != 0 and "exist" in r.err, f"{cli.name}: a second create: {r!r}")
        cli.end(id)


def test_delete_of_a_created_container(lab):
    for cli in clis(lab):
        for kind in KINDS if cli.name == "amphora" else (NATIVE,):
            id = cli.create(*kind_args(kind, "sleep", "1000"))
            pid = cli.state(id)["pid"]
            cli("delete", id).ok() if cli.name == "amphora" else cli("delete", "--force", id).ok()
            eventually(lambda: not os.path.exists(f"/proc/{pid}"), 3, f"{cli.name} {kind}: init is gone")


def test_kill_by_name_and_number(lab):
    amphora = Cli(lab)
    for kind in KINDS:
        for word in ("TERM", "SIGKILL", "9"):
            id = amphora.running(*kind_args(kind, "busy" if kind == WASM else "sleep", *(["1000"] if kind == NATIVE else [])))
            if kind == NATIVE and word == "TERM":
                amphora.end(id)  # pid 1 ignores what it does not handle
                continue
            begun = time.monotonic()
            amphora("kill", id, word).ok()
            amphora.until(id, "stopped")
            check(time.monotonic() - begun < 1.2, f"{kind} {word}: took {time.monotonic() - begun:.1f} s")
            amphora("delete", id).ok()
    id = amphora.running(*kind_args(NATIVE, "pause"))
    r = amphora("kill", id, "NOSUCH")
    check(r.code != 0 and "NOSUCH" in r.err, f"an unknown signal: {r!r}")
    amphora.end(id)


def test_exec(lab):
    for cli in clis(lab):
        for kind in KINDS if cli.name == "amphora" else (NATIVE,):
            id = cli.running(*kind_args(kind, "sleep", "1000"))
            r = cli("exec", id, "sh", "-c", "echo out; echo err >&2; cat; exit 9", stdin="in\n")
            equal((r.code, r.out, r.err), (9, "out\nin\n", "err\n"), f"{cli.name} {kind}")
            r = cli("exec", "--cwd", "/tmp", "--env", "A=b", "--user", "1000:1000", id, "sh", "-c", "pwd; echo $A; id -u")
            equal(r.out, "/tmp\nb\n1000\n", f"{cli.name} {kind}: {r.err}")
            r = cli("exec", id, "/no/such")
            check(r.code not in (0, 9) and "/no/such" in r.err, f"{cli.name} {kind}: {r!r}")
            if cli.name == "amphora":
                r = cli("exec", id, "/app.wasm", "exit", "11")
                equal(r.code, 11, f"{kind}: a wasm exec: {r.err}")
            cli.end(id)


def test_ps_and_list(lab):
    for cli in clis(lab):
        id = cli.running("sh", "-c", "sleep 1000 & wait")
        eventually(lambda: len(json.loads(cli("ps", "-f", "json", id).ok().out)) == 2, 3, "two processes")
        pids = json.loads(cli("ps", "-f", "json", id).ok().out)
        check(cli.state(id)["pid"] in pids, f"{cli.name}: init among {pids}")
        contains(cli("ps", id).ok().out, "sleep 1000")
        listed = json.loads(cli("list", "-f", "json").ok().out)
        equal([(c["id"], c["status"]) for c in listed], [(id, "running")], cli.name)
        contains(cli("list").ok().out, id)
        equal(cli("list", "-q").ok().out.split(), [id])
        cli.end(id)


def test_pause_and_resume(lab):
    for cli in clis(lab):
        id = cli.running("sh", "-c", "while :; do :; done")
        cli("pause", id).ok()
        equal(cli.status(id), "paused", cli.name)
        cli("resume", id).ok()
        equal(cli.status(id), "running", cli.name)
        cli.end(id)


def test_detached_run_and_pid_file(lab):
    for cli in clis(lab):
        id, path = cli.bundle(*kind_args(NATIVE, "pause"))
        cli.detached("run", "-d", "--pid-file", path + "/pid", "-b", path, id).ok()
        with open(path + "/pid", encoding="utf-8") as f:
            equal(int(f.read()), cli.state(id)["pid"], cli.name)
        cli.end(id)


def test_spec(lab):
    directory = L.LAB + "/spec"
    for cli in clis(lab):
        os.makedirs(directory, exist_ok=True)
        cli("spec", "-b", directory).ok()
        with open(directory + "/config.json", encoding="utf-8") as f:
            spec = json.load(f)
        equal(spec["process"]["args"], ["sh"], cli.name)
        check({"pid", "mount", "network"} <= {n["type"] for n in spec["linux"]["namespaces"]}, cli.name)
        r = cli("spec", "-b", directory)
        check(r.code != 0 and "exist" in r.err, f"{cli.name}: a second spec: {r!r}")
        os.unlink(directory + "/config.json")


def test_features(lab):
    for cli in clis(lab):
        features = cli("features")
        if features.code != 0 and cli.name == "runc":
            continue  # runc before 1.1.1 in some builds
        features = json.loads(features.out)
        check("network" in features["linux"]["namespaces"], f"{cli.name}: {features['linux']['namespaces']}")
        check(features["linux"]["seccomp"]["enabled"], cli.name)


def test_detect_says_what_and_why(lab):
    amphora = Cli(lab)
    for args, kind in ((["/bin/demo"], "native"), (["/app.wasm"], "wasm-module")):
        _, path = amphora.bundle(*args)
        r = amphora("detect", path).ok()
        contains(r.out, kind)
        contains(r.out, args[0])
    _, path = amphora.bundle("/no/such")
    contains(amphora("detect", path).out + amphora("detect", path).err, "/no/such")


def test_state_tells_the_kind_and_why(lab):
    amphora = Cli(lab)
    for kind, word in ((NATIVE, "native"), (WASM, "wasm-module")):
        id = amphora.create(*kind_args(kind, "sleep", "1000"))
        annotations = amphora.state(id).get("annotations", {})
        check(any(word in value for value in annotations.values()), f"{kind}: annotations {annotations}")
        amphora.end(id)


def test_plan_prints_the_steps_and_makes_nothing(lab):
    amphora = Cli(lab)
    for kind in KINDS:
        _, path = amphora.bundle(*kind_args(kind, "true"))
        out = amphora("plan", path).ok().out
        for word in ("/proc", "pivot", "hostname"):
            contains(out, word, kind)
    equal(amphora("list", "-q").ok().out, "")


def test_a_failing_create_names_the_step_and_leaves_nothing(lab):
    def bad_mount(spec):
        spec["mounts"].append({"destination": "/data", "type": "nosuchfs", "source": "x"})

    def bad_bind(spec):
        spec["mounts"].append({"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]})
    for cli in clis(lab):
        for change, word in ((bad_mount, "/data"), (bad_bind, "/no/such/source")):
            id, path = cli.bundle(*kind_args(NATIVE, "true"), change=change)
            r = cli.detached("create", "-b", path, id)
            check(r.code != 0, f"{cli.name}: it was created")
            contains(r.err, word, cli.name)
            check(cli("state", id).code != 0, f"{cli.name}: a state is left")


def test_terminal(lab):
    for cli in clis(lab):
        id, path = cli.bundle("sh", "-c", "sleep 0.2; stty size; test -t 0 && echo terminal; read x; echo got $x; exit 3", terminal=True)
        r = L.on_terminal([cli.name, "--root", cli.root, "run", "-b", path, id], b"words\r", until=b"terminal", env=lab.env)
        equal(r.code, 3, cli.name)
        contains(r.out, "got words", cli.name)
        contains(r.out, "24 80", cli.name)


def test_trap_ends_with_134_and_a_backtrace(lab):
    r = Cli(lab).run(*kind_args(WASM, "trap"))
    equal((r.code, r.out), (134, ""))
    contains(r.err, "unreachable")


def test_exit_codes_of_failures(lab):
    amphora = Cli(lab)
    for args, reason in ((["/no/such"], "/no/such"), (["/data"], "/data")):
        r = amphora.run(*args)
        check(r.code != 0 and reason in r.err, f"{args}: {r!r}")


def test_state_file_of_a_newer_version_is_refused_and_of_this_one_read(lab):
    amphora = Cli(lab)
    id = amphora.create(*kind_args(NATIVE, "pause"))
    path = f"{amphora.root}/{id}/state.json"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    saved = json.loads(text)
    version = [k for k in saved if "version" in k.lower() and k != "ociVersion"]
    equal(len(version), 1, f"one version field among {list(saved)}")
    amphora.end(id)


def test_a_new_target_file_in_a_root_that_becomes_read_only(lab):
    # The file made as a mount's target was once held open for writing, and the root then stayed busy.
    os.makedirs(L.LAB + "/file-source", exist_ok=True)
    with open(L.LAB + "/file-source/file", "w", encoding="utf-8") as f:
        f.write("bound\n")

    for cli in clis(lab):
        def change(spec, name=cli.name):
            spec["mounts"].append({"destination": f"/made-by-{name}/file", "type": "bind",
                                   "source": L.LAB + "/file-source/file", "options": ["bind", "ro"]})
        r = cli.run("sh", "-c", f"cat /made-by-{cli.name}/file; touch /x", change=change)
        equal((r.code, r.out), (1, "bound\n"), f"{cli.name}: {r.err}")
        contains(r.err, "Read-only file system")


def test_ids_are_the_specs_whatever_the_callers_group_is(lab):
    # A service with User=root and Group=staff, or newgrp: only root's own ids may be taken for granted.
    cli = Cli(lab)
    for kind in KINDS:
        for front in (["setpriv", "--regid", "5", "--clear-groups"], ["setpriv", "--ruid", "5"]):
            id, path = cli.bundle(*kind_args(kind, "sleep", "100"))
            cli.detached("run", "-d", "-b", path, id, front=front).ok()
            with open(f"/proc/{cli.state(id)['pid']}/status", encoding="utf-8") as f:
                ids = {line.split(":")[0]: line.split()[1:] for line in f if line.startswith(("Uid:", "Gid:"))}
            equal(ids, {"Uid": ["0"] * 4, "Gid": ["0"] * 4}, f"{kind} under {' '.join(front)}")
            cli.end(id)
