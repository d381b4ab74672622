# SPDX-License-Identifier: Apache-2.0
"""Mounts as a container sees them: every option of runtime-spec, id maps, tmpfs over what is there,
masked and read-only paths (acceptance cases 26 to 28 of docs/conformance.md)."""

import os
import subprocess

from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import Skip, check, contains, equal


def run(*words):
    subprocess.run(words, check=True)


class Tree:
    """A directory of the host's with known content, and a tmpfs mounted below it."""

    def __init__(self, lab):
        self.path = f"{L.LAB}/{lab.new_id('tree')}"
        os.makedirs(self.path + "/sub", exist_ok=True)

    def file(self, name, text="", uid=0, gid=0, mode=0o644):
        with open(f"{self.path}/{name}", "w", encoding="utf-8") as f:
            f.write(text)
        os.chown(f"{self.path}/{name}", uid, gid)
        os.chmod(f"{self.path}/{name}", mode)
        return f"{self.path}/{name}"

    def __enter__(self):
        run("mount", "-t", "tmpfs", "-o", "relatime", "below", self.path + "/sub")
        return self

    def __exit__(self, *_):
        run("umount", self.path + "/sub")


def mount(destination, source, *options, type="bind", **more):
    return {"destination": destination, "type": type, "source": source, "options": list(options), **more}


def adding(*mounts):
    """A spec with a writable /tmp of its own and these mounts after all others, for a root that may read all."""
    def change(spec):
        for kind in spec["process"]["capabilities"].values():
            kind.append("CAP_DAC_OVERRIDE")
        spec["mounts"] += [mount("/tmp", "tmpfs", "mode=1777", type="tmpfs"), *mounts]
    return change


def options_of(text):
    """Mount options by mount point, from the text of a mountinfo."""
    seen = {}
    for line in text.splitlines():
        words = line.split()
        seen[words[4]] = set(words[5].split(","))
    return seen


def test_recursive_read_only(lab):  # acceptance case 26
    with Tree(lab) as tree:
        for cli in [Cli(lab, name) for name in L.COMMANDS]:
            r = cli.run("cat", "/proc/self/mountinfo", change=adding(
                mount("/tmp/ro", tree.path, "rbind", "ro"), mount("/tmp/rro", tree.path, "rbind", "rro", "rnoatime")))
            equal(r.code, 0, f"{cli.name}: {r.err}")
            seen = options_of(r.out)
            check("ro" in seen["/tmp/ro"] and "rw" in seen["/tmp/ro/sub"], f"{cli.name}: ro is of the top alone: {seen}")
            check("ro" in seen["/tmp/rro"] and "ro" in seen["/tmp/rro/sub"], f"{cli.name}: rro reaches all: {seen}")
            if cli.name == "amphora":  # runc before 1.3.5 left relatime in place
                check("noatime" in seen["/tmp/rro/sub"] and "relatime" not in seen["/tmp/rro/sub"],
                      f"rnoatime takes relatime's place: {seen['/tmp/rro/sub']}")
        r = Cli(lab).run("sh", "-c", "echo x > /tmp/rro/sub/f", change=adding(mount("/tmp/rro", tree.path, "rbind", "rro")))
        check(r.code != 0 and "Read-only" in r.err, f"a write below rro: {r!r}")


def test_relative_destination(lab):  # acceptance case 26
    tree = Tree(lab)
    tree.file("f", "seen\n")
    for cli in [Cli(lab, name) for name in L.COMMANDS]:
        r = cli.run("cat", "/tmp/rel/f", change=adding(mount("tmp/rel", tree.path, "bind")))
        equal((r.code, r.out), (0, "seen\n"), f"{cli.name}: {r.err}")


def test_tmpcopyup(lab):  # acceptance case 26
    tree = Tree(lab)
    tree.file("mine", "text\n", 1000, 1001, 0o4751)
    os.symlink("mine", tree.path + "/link")
    os.chmod(tree.path + "/sub", 0o1770)
    os.chown(tree.path + "/sub", 5, 6)
    tree.file("sub/deep", "x" * 300000)
    os.setxattr(tree.path + "/mine", "trusted.kept", b"value")
    os.mkfifo(tree.path + "/fifo", 0o640)
    os.utime(tree.path + "/mine", (1, 1000000000))
    os.chmod(tree.path, 0o2751)
    os.chown(tree.path, 7, 8)
    script = ("stat -c '%n %a %u:%g %F' /tmp/up /tmp/up/mine /tmp/up/link /tmp/up/sub /tmp/up/fifo; readlink /tmp/up/link;"
              "stat -c %Y /tmp/up/mine; stat -c %s /tmp/up/sub/deep; cat /tmp/up/mine; echo new > /tmp/up/mine; grep -c ' /tmp/up ' /proc/self/mountinfo")
    r = Cli(lab).run("sh", "-c", script, change=adding(
        mount("/tmp/up", tree.path, "bind"), mount("/tmp/up", "tmpfs", "tmpcopyup", "size=4m", type="tmpfs")))
    equal((r.code, r.err), (0, ""))
    equal(r.out.splitlines(), [
        "/tmp/up 2751 7:8 directory", "/tmp/up/mine 4751 1000:1001 regular file", "/tmp/up/link 777 0:0 symbolic link",
        "/tmp/up/sub 1770 5:6 directory", "/tmp/up/fifo 640 0:0 fifo", "mine", "1000000000", "300000", "text", "2"])
    with open(tree.path + "/mine", encoding="utf-8") as f:
        equal(f.read(), "text\n", "the hidden file")
    # Extended attributes have no applet: seen from outside, in the container's own mount.
    cli = Cli(lab)
    id = cli.running("sleep", "1000", change=adding(
        mount("/tmp/up", tree.path, "bind"), mount("/tmp/up", "tmpfs", "tmpcopyup", type="tmpfs")))
    equal(os.getxattr(f"/proc/{cli.state(id)['pid']}/root/tmp/up/mine", "trusted.kept"), b"value")
    cli.end(id)


def test_tmpcopyup_refused_elsewhere(lab):
    r = Cli(lab).run("true", change=adding(mount("/tmp/x", "proc", "tmpcopyup", type="proc")))
    check(r.code != 0, "tmpcopyup on proc was taken")
    contains(r.err, "tmpcopyup is for tmpfs only")
    r = Cli(lab).run("true", change=adding(mount("/", "tmpfs", "tmpcopyup", type="tmpfs")))
    check(r.code != 0, "tmpcopyup on the root was taken")


def test_tmpfs_mode(lab):
    """Its own words first, else the mode of the directory below; one that is made for it has none to take."""
    tree = Tree(lab)
    r = Cli(lab).run("sh", "-c", "stat -c %a /tmp/new/deep; grep ' /tmp/new/deep ' /proc/self/mounts",
                     change=adding(mount("/tmp/new/deep", "tmpfs", type="tmpfs")))
    check(r.code == 0 and r.out.startswith("1777\n") and "mode=" not in r.out, repr(r))
    os.chmod(tree.path + "/sub", 0o710)
    for options, want in (((), "710"), (("mode=0444",), "444")):
        r = Cli(lab).run("sh", "-c", "stat -c %a /tmp/t/sub; grep /t/sub /proc/self/mounts", change=adding(
            mount("/tmp/t", tree.path, "bind"), mount("/tmp/t/sub", "tmpfs", *options, type="tmpfs")))
        equal((r.code, r.out.splitlines()[0]), (0, want), f"{options}: {r.err}")
        contains(r.out, f"mode={want}", f"{options}: the mount table says so")


ONE = {"uidMappings": [{"containerID": 1000, "hostID": 0, "size": 1}],
       "gidMappings": [{"containerID": 1000, "hostID": 0, "size": 1}]}


def test_idmap(lab):  # acceptance case 27
    with Tree(lab) as tree:
        tree.file("f", uid=1000, gid=1000)
        tree.file("sub/g", uid=1000, gid=1000)
        os.chown(tree.path, 1000, 1000)
        show = "cd /tmp/m; echo new > h; stat -c '%n %u:%g' f h sub/g"
        for options, below in ((("rbind", "idmap"), "1000:1000"), (("rbind", "ridmap"), "0:0"), (("rbind",), "1000:1000")):
            r = Cli(lab).run("sh", "-c", show, change=adding(mount("/tmp/m", tree.path, *options, **ONE)))
            equal((r.code, r.out.splitlines()), (0, ["f 0:0", "h 0:0", f"sub/g {below}"]), f"{options}: {r.err}")
            st = os.stat(tree.path + "/h")
            equal((st.st_uid, st.st_gid), (1000, 1000), f"{options}: the new file's owner on the host")
            os.unlink(tree.path + "/h")
        # crun's form: ids of the filesystem, what they become, how many.
        r = Cli(lab).run("sh", "-c", "stat -c %u:%g /tmp/m/f", change=adding(
            mount("/tmp/m", tree.path, "bind", "idmap=uids=1000-5-1;gids=1000-6-1")))
        equal((r.code, r.out), (0, "5:6\n"), r.err)


def mapped(spec, host=100000):
    spec["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        spec["linux"][kind] = [{"containerID": 0, "hostID": host, "size": 65536}]


def test_idmap_in_a_user_namespace(lab):  # acceptance case 27
    """Without mappings of its own a mount takes the container's; its own win."""
    tree = Tree(lab)
    tree.file("f", uid=1000, gid=1000)
    os.chmod(tree.path, 0o777)

    def change(spec):
        mapped(spec)
        own = {k: [{"containerID": 1000, "hostID": 100007, "size": 1}] for k in ("uidMappings", "gidMappings")}
        adding(mount("/tmp/a", tree.path, "bind", "idmap"), mount("/tmp/b", tree.path, "bind", **own),
               mount("/tmp/c", tree.path, "bind"), mount("/tmp/d", tree.path, "bind", "idmap=uids=@1000-3-1;gids=@1000-4-1"))(spec)
    r = Cli(lab).run("stat", "-c", "%u:%g", "/tmp/a/f", "/tmp/b/f", "/tmp/c/f", "/tmp/d/f", change=change)
    equal((r.code, r.out.split()), (0, ["1000:1000", "7:7", "65534:65534", "3:4"]), r.err)


def test_idmap_refused(lab):  # acceptance case 27
    tree = Tree(lab)
    half = {"uidMappings": ONE["uidMappings"]}
    for wrong, words in ((mount("/tmp/m", "tmpfs", "idmap", type="tmpfs", **ONE), "only bind mounts can be id-mapped"),
                         (mount("/tmp/m", tree.path, "bind", "idmap"), "needs uidMappings and gidMappings"),
                         (mount("/tmp/m", tree.path, "bind", **half), "both uidMappings and gidMappings"),
                         (mount("/tmp/m", tree.path, "bind", "idmap=uids=x"), "is no id map"),
                         (mount("/tmp/m", "/proc", "bind", **ONE), "does not support id-mapped mounts")):
        r = Cli(lab).run("true", change=adding(wrong))
        check(r.code != 0, f"{wrong} was taken")
        contains(r.err, words)
        contains(r.err, "/tmp/m")


def test_symlink_options(lab):
    """copy-symlink, src-nofollow and dest-nofollow, as crun has them."""
    tree = Tree(lab)
    tree.file("f", "target\n")
    os.symlink("f", tree.path + "/link")
    os.symlink("nowhere", tree.path + "/sub/dest")
    r = Cli(lab).run("sh", "-c", "readlink /tmp/d/copy; cat /tmp/t/followed; readlink /tmp/t/itself; readlink /tmp/t/sub/dest", change=adding(
        mount("/tmp/t", tree.path, "bind"),
        mount("/tmp/d/copy", tree.path + "/link", "bind", "copy-symlink"),
        mount("/tmp/t/followed", tree.path + "/link", "bind"),
        mount("/tmp/t/itself", tree.path + "/link", "bind", "src-nofollow"),
        mount("/tmp/t/sub/dest", tree.path + "/link", "bind", "src-nofollow", "dest-nofollow")))
    equal((r.code, r.out.splitlines()), (0, ["f", "target", "f", "f"]), r.err)


def test_masked_paths(lab):  # acceptance case 28
    tree = Tree(lab)
    for n in range(200):
        os.makedirs(f"{tree.path}/d{n}")
    tree.file("secret", "secret\n")
    tree.file("d0/inside", "x")

    def change(spec):
        adding(mount("/tmp/t", tree.path, "bind"))(spec)
        spec["linux"]["maskedPaths"] = [f"/tmp/t/d{n}" for n in range(200)] + ["/tmp/t/secret", "/tmp/t/missing"]
    r = Cli(lab).run("sh", "-c", "cat /tmp/t/secret; ls /tmp/t/d0 | wc -l; touch /tmp/t/d0/new 2>&1; ls /tmp/t | grep -c missing; "
                     "awk '$5 ~ /^.tmp.t.d/ {print $3}' /proc/self/mountinfo | sort | uniq -c", change=change)
    lines = r.out.splitlines()
    equal(lines[0], "0", r.err)
    contains(lines[1], "Read-only file system")
    equal(lines[2], "0", "a missing path is made")
    equal(len(lines), 4, f"one superblock for all masked directories: {lines}")
    equal(lines[3].split()[0], "200", "mounts of the one superblock")


def test_locked_flags_in_a_user_namespace(lab):  # acceptance case 26
    """What a mount of the host's is restricted by stays in a user namespace; to clear it by name is an error. Access times
    stay as they are unless a setting is named."""
    tree = Tree(lab)
    run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,noatime,mode=755", "locked", tree.path + "/sub")

    def seen_with(user, *options):
        def change(spec):
            if user:
                mapped(spec)
            adding(mount("/tmp/x", tree.path + "/sub", "bind", *options))(spec)
        r = Cli(lab).run("cat", "/proc/self/mountinfo", change=change)
        return (options_of(r.out).get("/tmp/x"), r)

    try:
        for user in (False, True):
            kept = {"nosuid", "nodev", "noexec"} if user else set()
            for options in (["ro"], ["rw"], ["ro", "atime"], ["nostrictatime"], ["symfollow"]):
                seen, r = seen_with(user, *options)
                equal(r.code, 0, f"{options}: {r.err}")
                equal(seen & {"nosuid", "nodev", "noexec"}, kept, f"user namespace {user}, {options}")
                check("noatime" in seen, f"user namespace {user}, {options}: access times changed: {seen}")
                equal("ro" in seen, "ro" in options, f"{options}: {seen}")
            for options in (["exec"], ["suid"], ["ro", "dev"], ["strictatime"], ["relatime"], ["nodiratime"]):
                seen, r = seen_with(user, *options)
                if user:
                    check(r.code == 1 and "error mounting" in r.err and "operation not permitted" in r.err, f"{options}: {r!r}")
                    continue
                equal(r.code, 0, f"{options}: {r.err}")
                equal(seen & {"nosuid", "nodev", "noexec"}, set(), f"{options}")
        seen, _ = seen_with(False, "nodiratime")
        check({"nodiratime", "relatime"} <= seen and "noatime" not in seen, f"nodiratime is a setting of its own: {seen}")
        run("mount", "-o", "remount,bind,ro", tree.path + "/sub")
        seen, r = seen_with(True, "rw")
        check(r.code == 1 and "operation not permitted" in r.err, f"a locked read-only: {r!r}")
        run("mount", "-o", "remount,bind,rw", tree.path + "/sub")
        run("mount", "-o", "remount,ro", tree.path + "/sub")  # the filesystem: nobody's lock
        seen, r = seen_with(True, "rw")
        equal(r.code, 0, f"a read-only filesystem, rw: {r.err}")
    finally:
        run("umount", tree.path + "/sub")


def test_bind_of_what_earlier_mounts_make(lab):
    """A source below the root filesystem is what the container's earlier mounts put there, and links in it lead nowhere else."""
    cli = Cli(lab)
    tree = Tree(lab)
    os.mkdir(tree.path + "/inner")
    tree.file("inner/word", "from the volume\n")
    os.symlink("/etc/hostname", tree.path + "/out")
    cli.bundle("true")
    root = f"{L.LAB}/bundles/shared/rootfs"
    r = cli.run("sh", "-c", "cat /tmp/again/inner/word /tmp/one/word /tmp/deep/tmp/vol/inner/word", change=adding(
        mount("/tmp/vol", tree.path, "bind"), mount(root + "/tmp/again", root + "/tmp/vol", "rbind"),
        mount("/tmp/one", root + "/tmp/vol/inner", "bind", "ro"), mount("/tmp/deep", root, "rbind")))
    equal((r.code, r.out), (0, "from the volume\n" * 3), r.err)
    # /etc/hostname is not in the container: the link is its own, not the host's.
    r = cli.run("cat", "/tmp/file", change=adding(mount("/tmp/vol", tree.path, "bind"), mount("/tmp/file", root + "/tmp/vol/out", "bind")))
    check(r.code == 1 and "error mounting" in r.err and "no such file" in r.err, repr(r))


def test_no_pivot_leaves_no_bare_proc(lab):
    """Without a pivot the host's mounts stay in the namespace: no user namespace inside may take an unmasked procfs
    among them for the right to mount one."""
    def change(spec):
        for kind in spec["process"]["capabilities"].values():
            kind.append("CAP_SETFCAP")
    script = ["unshare", "-mrpf", "mount", "-t", "proc", "none", "/proc"]
    for cli in [Cli(lab, name) for name in L.COMMANDS]:
        for options in ([], ["--no-pivot"]):
            r = cli.run(*script, change=change, options=options)
            check(r.code != 0, f"{cli.name} {options}: a procfs without masks was mounted inside")
            contains(r.err.lower(), "permitted" if "permitted" in r.err.lower() else "denied", f"{cli.name} {options}")
            equal(cli.run("echo", "there", options=options).out, "there\n", f"{cli.name} {options}")
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        check(" /proc " in f.read(), "the host's own procfs went away")
