# SPDX-License-Identifier: Apache-2.0
"""The command for a user who is not root: with the user's own id only, and with ranges of /etc/subuid
through newuidmap and newgidmap. /etc is a copy of the case's own, which the user is written into."""

import contextlib
import json
import os
import shutil
import stat
import subprocess

from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import Skip, check, contains, equal, eventually

UID, GID, FIRST = 23456, 23457, 700000
KINDS = (NATIVE, WASM)


class User(Cli):
    """The command, called by the user, with its state where it has it by default."""

    def __init__(self, lab):
        super().__init__(lab)
        self.home = f"{L.LAB}/user"
        self.runtime = f"/run/user-{UID}"
        self.root = self.runtime + "/amphora"
        # Not the bounding set: newuidmap is setuid and needs it.
        self.as_user = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "--inh-caps=-all",
                        "env", f"XDG_RUNTIME_DIR={self.runtime}", f"HOME={self.home}", "USER=tester"]

    def __call__(self, *args, stdin="", timeout=30, cwd=None):
        return L.command([*self.as_user, self.name, *self.options, *args], stdin, timeout, self.lab.env, cwd or "/")

    def detached(self, *args, front=()):
        saved, self.options = self.options, []
        try:
            return super().detached(*args, front=[*front, *self.as_user])
        finally:
            self.options = saved

    def bundle(self, *args, change=None, ranges=True, **more):
        def edit(spec):
            rootless(spec, ranges)
            if change:
                change(spec)
        return super().bundle(*args, change=edit, **more)


def rootless(spec, ranges):
    """What a user who is not root has to leave out of a spec."""
    del spec["linux"]["resources"], spec["linux"]["cgroupsPath"]
    spec["linux"]["namespaces"].append({"type": "user"})
    for key, own in (("uidMappings", UID), ("gidMappings", GID)):
        spec["linux"][key] = [{"containerID": 0, "hostID": own, "size": 1}]
        if ranges:
            spec["linux"][key].append({"containerID": 1, "hostID": FIRST, "size": 65536})
    if not ranges:
        for m in spec["mounts"]:
            m["options"] = [o for o in m.get("options", []) if not o.startswith("gid=")]


@contextlib.contextmanager
def user(lab):
    if not shutil.which("newuidmap"):
        raise Skip("newuidmap is not installed (package uidmap)")
    me = User(lab)
    etc = f"{L.LAB}/etc"
    shutil.rmtree(etc, ignore_errors=True)
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    for name, line in (("passwd", f"tester:x:{UID}:{GID}::{me.home}:/bin/sh"), ("group", f"tester:x:{GID}:"),
                       ("subuid", f"tester:{FIRST}:65536"), ("subgid", f"tester:{FIRST}:65536")):
        with open(f"{etc}/{name}", "a", encoding="utf-8") as f:
            f.write(line + "\n")
    before = os.stat(L.LAB).st_mode
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    try:
        os.chmod(L.LAB, before | 0o055)
        for path in (me.home, me.runtime):
            os.makedirs(path, exist_ok=True)
            os.chown(path, UID, GID)
            os.chmod(path, 0o700)
        probe = subprocess.run([*me.as_user, "unshare", "-Ur", "true"], capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            raise Skip("users may not make user namespaces here: " + probe.stderr.strip())
        yield me
        equal(os.listdir(me.root) if os.path.isdir(me.root) else [], [], "what is left of containers")
    finally:
        os.chmod(L.LAB, before)
        subprocess.run(["umount", "/etc"], check=True)
        shutil.rmtree(me.runtime, ignore_errors=True)
        shutil.rmtree(me.home, ignore_errors=True)


def test_run(lab):
    with user(lab) as me:
        for ranges in (False, True):
            for kind in KINDS:
                id, path = me.bundle(*kind_args(kind, "echo", "some", "words"), ranges=ranges)
                r = me("run", "-b", path, id)
                equal((r.code, r.out), (0, "some words\n"), f"{kind}, ranges {ranges}: {r.err}")
            id, path = me.bundle("sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u /etc/passwd /proc/1; ls -l /dev/null; "
                                 "mount | grep -c ' on /sys '; hostname; cat /proc/self/setgroups", ranges=ranges)
            r = me("run", "-b", path, id).ok()
            lines = r.out.splitlines()
            words = [line.split() for line in lines]
            equal(lines[0], "0", "the uid")
            equal(words[1], ["0", str(UID), "1"], "the first map")
            check(("1", str(FIRST), "65536") == tuple(words[2]) if ranges else True, f"the second map: {lines[2]}")
            contains(r.out, "amphora-test")
            equal(lines[-1], "allow" if ranges else "deny", "setgroups: newgidmap allows it to who has ranges")
        equal(stat.S_IMODE(os.stat(me.root).st_mode), 0o1700, "mode of the state root")


def test_ids_from_ranges(lab):
    def other(spec):
        spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 1001]}

    def inspect(me):
        id, path = me.bundle("sh", "-c", "id -u; id -g; id -G; touch /tmp/mine", change=lambda s: (other(s), tmp(s)))
        return me("run", "-b", path, id)

    def tmp(spec):
        spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": f"{L.LAB}/user/tmp", "options": ["bind", "rw"]})

    with user(lab) as me:
        os.mkdir(me.home + "/tmp")
        os.chmod(me.home + "/tmp", 0o1777)
        r = inspect(me).ok()
        equal(r.out.splitlines(), ["1000", "1000", "1000 5 1001"], "ids inside")
        s = os.stat(me.home + "/tmp/mine")
        equal((s.st_uid, s.st_gid), (FIRST + 999, FIRST + 999), "owner of a file, seen from the host")


def test_lifecycle(lab):
    with user(lab) as me:
        for kind in KINDS:
            id, path = me.bundle(*kind_args(kind, "sleep", "1000"))
            r = me.detached("create", "-b", path, id)
            equal(r.code, 0, f"create {kind}: {r!r}")
            equal(me.status(id), "created", kind)
            pid = me.state(id)["pid"]
            equal(os.stat(f"/proc/{pid}").st_uid, UID, f"{kind}: whose process it is")
            me("start", id).ok()
            equal(me.status(id), "running", kind)
            r = me("exec", id, "sh", "-c", "id -u; cat; exit 7", stdin="typed\n")
            equal((r.code, r.out), (7, "0\ntyped\n"), f"exec in {kind}: {r.err}")
            if kind == WASM:
                r = me("exec", id, "/app.wasm", "echo", "again")
                equal((r.code, r.out), (0, "again\n"), f"exec of a module: {r.err}")
            listed = json.loads(me("list", "-f", "json").ok().out)
            equal([(c["id"], c["status"]) for c in listed], [(id, "running")], "list")
            check(me("delete", id).code != 0, "a running container was deleted")
            me("kill", id, "KILL").ok()
            me.until(id, "stopped")
            me("delete", id).ok()
        id, path = me.bundle("sleep", "1000")
        equal(me.detached("run", "-d", "-b", path, id).code, 0, "run -d")
        me("delete", "--force", id).ok()
        check(not os.path.exists(f"{me.root}/{id}"), "delete --force left a record")


def test_terminal(lab):
    with user(lab) as me:
        def terminal(spec):
            spec["process"]["terminal"] = True
        id, path = me.bundle("sh", "-c", "tty; stat -c %u:%t:%T /dev/console", change=terminal)
        r = L.on_terminal([*me.as_user, me.name, "run", "-b", path, id], env=lab.env)
        equal(r.code, 0, r.out)
        contains(r.out, "/dev/pts/0")


def test_spec_rootless_runs_as_it_is_written(lab):
    with user(lab) as me:
        bundle = me.home + "/bundle"
        os.mkdir(bundle)
        os.chown(bundle, UID, GID)
        me("spec", "--rootless", cwd=bundle).ok()
        with open(bundle + "/config.json", encoding="utf-8") as f:
            spec = json.load(f)
        equal(spec["linux"]["uidMappings"], [{"containerID": 0, "hostID": UID, "size": 1}], "uidMappings")
        spec["root"]["path"] = f"{L.LAB}/bundles/shared/rootfs"
        spec["process"].update(args=["sh", "-c", "echo here; touch /sys/fs/cgroup/x /sys/x 2>&1"], terminal=False)
        with open(bundle + "/config.json", "w", encoding="utf-8") as f:
            json.dump(spec, f)
        me.bundle("true")  # the root filesystem
        r = me("run", "-b", bundle, "written")
        equal(r.out.splitlines()[:1], ["here"], r.err)
        equal(r.out.count("Read-only file system"), 2, r.out)


def test_refused(lab):
    """One line that names the member, and nothing is made."""
    cases = {
        "rootless containers require user namespaces": lambda s: s["linux"].update(
            namespaces=[n for n in s["linux"]["namespaces"] if n["type"] != "user"], uidMappings=[], gidMappings=[]),
        "cannot specify uid=70000": lambda s: s["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["uid=70000"]}),
        "cannot specify gid=70000": lambda s: s["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["size=4k,gid=70000"]}),
        "network devices are not supported for rootless": lambda s: s["linux"].update(netDevices={"eth9": {}}),
        "gid 70001 is not in linux.gidMappings": lambda s: s["process"]["user"].update(additionalGids=[70001]),
        "id-mapped mounts need CAP_SYS_ADMIN": lambda s: s["mounts"].append(
            {"destination": "/tmp", "type": "bind", "source": "/tmp", "options": ["bind", "idmap"]}),
        "/etc/subuid": lambda s: s["linux"]["uidMappings"][1].update(hostID=FIRST + 1),
        "/etc/subgid": lambda s: s["linux"]["gidMappings"][1].update(size=65537),
        "rootless needs no limits + no cgrouppath": lambda s: s["linux"].update(resources={"pids": {"limit": 10}}),
    }
    with user(lab) as me:
        for text, change in cases.items():
            id, path = me.bundle("true", change=change)
            r = me("run", "-b", path, id)
            equal(r.code, 1, text)
            contains(r.err, text)
            equal(len(r.err.strip().splitlines()), 1, f"lines of the error about {text}: {r.err}")
        id, path = me.bundle("true", ranges=False, change=lambda s: s["process"]["user"].update(additionalGids=[0]))
        contains(me("run", "-b", path, id).err, "cannot set any additional groups in a rootless container")
        id, path = me.bundle("true")
        r = L.command([*me.as_user, me.name, "--rootless", "false", "run", "-b", path, id], env=lab.env, cwd="/")
        check(r.code == 1 and "cgroup" in r.err and "permission denied" in r.err, f"--rootless false: {r!r}")
        r = L.command([*me.as_user, me.name, "--rootless", "true", "run", "-b", path, id], env=lab.env, cwd="/")
        equal(r.code, 0, f"--rootless true: {r!r}")


def test_missing_helper(lab):
    """Without newuidmap ranges are an error that names the package; one's own id still works."""
    with user(lab) as me:
        hidden = f"{L.LAB}/none"
        with open(hidden, "w", encoding="utf-8"):
            pass
        os.chmod(hidden, 0o644)
        where = [p for p in ("/usr/bin/newuidmap", "/usr/local/bin/newuidmap", "/bin/newuidmap") if os.path.exists(p)]
        mounted = []
        try:
            for path in where:
                subprocess.run(["mount", "--bind", hidden, path], check=True)
                mounted.append(path)
            id, path = me.bundle("true")
            r = me("run", "-b", path, id)
            check(r.code == 1 and "newuidmap is missing (package uidmap)" in r.err, repr(r))
            id, path = me.bundle("true", ranges=False)
            me("run", "-b", path, id).ok()
        finally:
            for path in mounted:
                subprocess.run(["umount", path], check=True)


def test_root_of_a_user_namespace_without_its_mounts(lab):
    """unshare -r without -m: every capability, but not over the mounts."""
    def change(spec):
        del spec["linux"]["resources"], spec["linux"]["cgroupsPath"]
        for m in spec["mounts"]:
            m["options"] = [o for o in m.get("options", []) if not o.startswith("gid=")]
    with user(lab) as me:
        id, path = Cli.bundle(me, "cat", "/proc/self/uid_map", change=change)
        r = L.command([*me.as_user, "unshare", "-r", me.name, "run", "-b", path, id], env=lab.env, cwd="/")
        equal((r.code, r.out.split()), (0, ["0", str(UID), "1"]), r.err)


def test_groups_of_the_caller_stay(lab):
    """CVE-2014-8989: dropping a group that denies access must not be possible by a namespace of one's own."""
    with user(lab) as me:
        secret = me.home + "/secret"
        with open(secret, "w", encoding="utf-8") as f:
            f.write("not for this group")
        os.chown(secret, 0, 54321)
        os.chmod(secret, 0o707)
        front = list(me.as_user)
        front[front.index("--clear-groups")] = "--groups=54321"
        def bind(spec):
            spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": me.home, "options": ["rbind"]})
        # With ranges newgidmap allows it: who wrote them into /etc/subgid has decided so (CVE-2018-7169).
        id, path = me.bundle("cat", "/tmp/secret", ranges=False, change=bind)
        r = L.command([*front, me.name, "run", "-b", path, id], env=lab.env, cwd="/")
        check(r.code != 0 and "not for this group" not in r.out and "ermission denied" in r.err, repr(r))


def test_oom_score_and_hooks(lab):
    marker = f"{L.LAB}/user/hooked"
    def change(spec):
        spec["process"]["oomScoreAdj"] = 777
        spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"id -u > {marker}"]}],
                         "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 0"]}]}
    with user(lab) as me:
        id, path = me.bundle("cat", "/proc/self/oom_score_adj", change=change)
        r = me("run", "-b", path, id)
        equal((r.code, r.out), (0, "777\n"), r.err)
        with open(marker, encoding="utf-8") as f:
            equal(f.read(), f"{UID}\n", "whose hook it was")


def test_killed_creator_leaves_what_delete_removes(lab):
    pid_file = f"{L.LAB}/user/hook"
    with user(lab) as me:
        id, path = me.bundle("sleep", "1000", change=lambda s: s.update(
            hooks={"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ > {pid_file}; exec sleep 30"]}]}))
        creator = subprocess.Popen([*me.as_user, me.name, "create", "-b", path, id], env=lab.env, cwd="/",
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: os.path.exists(pid_file) and os.path.getsize(pid_file) > 0, 5, "the hook runs")
        creator.kill()
        creator.wait()
        with open(pid_file, encoding="utf-8") as f:
            os.kill(int(f.read()), 9)
        me("delete", "--force", id).ok()
