# SPDX-License-Identifier: Apache-2.0
"""Every mount option and every type of runtime-spec, looked up in the mount table that the container sees: what a
word says is what is there. Trees, id maps and copies are t_mounts'; docs/spec.md has the rows."""

import os
import subprocess

from tests.cli.t_mounts import Tree, adding, mapped, mount, options_of, run
from tests.cli.t_spec import namespace, without
from tests.support import lab as L
from tests.support.command import NATIVE, WASM, Cli, kind_args
from tests.support.runner import check, contains, equal

TABLE = ("cat", "/proc/self/mountinfo")


def table(lab, *mounts, args=TABLE, change=None):
    r = Cli(lab).run(*args, change=lambda spec: (adding(*mounts)(spec), change and change(spec)))
    equal(r.code, 0, f"{[m['options'] for m in mounts]}: {r.err}")
    return r.out


# ---- flags

# word: what the mount then has, and has not, in the table of mounts
FLAGS = {
    "ro": ({"ro"}, {"rw"}), "rw": ({"rw"}, {"ro"}), "nosuid": ({"nosuid"}, set()), "suid": (set(), {"nosuid"}), "nodev": ({"nodev"}, set()),
    "dev": (set(), {"nodev"}), "noexec": ({"noexec"}, set()), "exec": (set(), {"noexec"}), "noatime": ({"noatime"}, {"relatime"}),
    "relatime": ({"relatime"}, {"noatime"}), "strictatime": (set(), {"relatime", "noatime"}), "nodiratime": ({"nodiratime"}, set()),
    "nosymfollow": ({"nosymfollow"}, set()), "symfollow": (set(), {"nosymfollow"}),
}
# Words that a later opposite takes back.
PAIRS = (("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("nosymfollow", "symfollow"))


def test_flags_of_binds(lab):
    tree = Tree(lab)
    words = list(FLAGS)
    seen = options_of(table(lab, *(mount(f"/tmp/{w}", tree.path, "bind", w) for w in words),
                            *(mount(f"/tmp/{a}-{b}", tree.path, "bind", a, b) for a, b in PAIRS)))
    for word, (has, has_not) in FLAGS.items():
        got = seen[f"/tmp/{word}"]
        check(has <= got and not has_not & got, f"bind {word}: {sorted(got)}")
    for set_it, clear in PAIRS:
        check(set_it not in seen[f"/tmp/{set_it}-{clear}"], f"{set_it} then {clear}: {seen[f'/tmp/{set_it}-{clear}']}")


def test_flags_of_new_filesystems(lab):
    words = list(FLAGS)
    text = table(lab, *(mount(f"/tmp/{w}", "tmpfs", w, "size=4k", type="tmpfs") for w in words))
    seen = options_of(text)
    for word, (has, has_not) in FLAGS.items():
        got = seen[f"/tmp/{word}"]
        check(has <= got and not has_not & got, f"tmpfs {word}: {sorted(got)}")
        contains(next(line for line in text.splitlines() if f" /tmp/{word} " in line), "size=4k", word)


def test_flags_of_the_superblock(lab):
    """sync, dirsync, mand and lazytime are the filesystem's; their opposites take them back."""
    words = (("sync",), ("dirsync",), ("lazytime",), ("sync", "async"), ("lazytime", "nolazytime"), ("silent", "loud"), ("defaults",))
    text = table(lab, *(mount(f"/tmp/{'-'.join(w)}", "tmpfs", *w, type="tmpfs") for w in words))
    lines = {line.split()[4]: set(line.split(" - ")[1].split()[-1].split(",")) for line in text.splitlines() if " /tmp/" in line}
    for word in ("sync", "dirsync", "lazytime"):
        check(word in lines[f"/tmp/{word}"], f"{word}: {lines[f'/tmp/{word}']}")
    check("sync" not in lines["/tmp/sync-async"] and "lazytime" not in lines["/tmp/lazytime-nolazytime"], f"taken back: {lines}")


# ---- whole trees

RECURSIVE = {
    "rro": ({"ro"}, set()), "rrw": ({"rw"}, set()), "rnosuid": ({"nosuid"}, set()), "rsuid": (set(), {"nosuid"}), "rnodev": ({"nodev"}, set()),
    "rdev": (set(), {"nodev"}), "rnoexec": ({"noexec"}, set()), "rexec": (set(), {"noexec"}), "rnodiratime": ({"nodiratime"}, set()),
    "rdiratime": (set(), {"nodiratime"}), "rnoatime": ({"noatime"}, {"relatime"}), "ratime": ({"relatime"}, {"noatime"}),
    "rrelatime": ({"relatime"}, {"noatime"}), "rnorelatime": ({"relatime"}, {"noatime"}), "rstrictatime": (set(), {"relatime", "noatime"}),
    "rnostrictatime": ({"relatime"}, set()), "rnosymfollow": ({"nosymfollow"}, set()), "rsymfollow": (set(), {"nosymfollow"}),
}


def test_flags_of_whole_trees(lab):
    """Of the mount itself and of what is mounted below it, which has the opposite before."""
    for below in ("ro,nosuid,nodev,noexec,nodiratime,noatime", "rw,strictatime"):
        tree = Tree(lab)
        run("mount", "-t", "tmpfs", "-o", below, "below", tree.path + "/sub")
        try:
            # A filesystem that is read-only itself stays so; here the mount is.
            run("mount", "-o", "remount,rw", tree.path + "/sub")
            run("mount", "-o", "remount,bind," + below, tree.path + "/sub")
            seen = options_of(table(lab, *(mount(f"/tmp/{w}", tree.path, "rbind", w) for w in RECURSIVE)))
        finally:
            run("umount", tree.path + "/sub")
        for word, (has, has_not) in RECURSIVE.items():
            for place in (f"/tmp/{word}", f"/tmp/{word}/sub"):
                check(has <= seen[place] and not has_not & seen[place], f"{word} over {below}: {place}: {sorted(seen[place])}")


def tags(text, place):
    """The propagation of a mount: words between its options and the dash."""
    line = next(line for line in text.splitlines() if line.split()[4] == place)
    return {word.split(":")[0] for word in line.split(" - ")[0].split()[6:]}


def test_propagation(lab):
    words = {"shared": {"shared"}, "slave": set(), "private": set(), "unbindable": {"unbindable"}}
    with Tree(lab) as tree:
        run("mount", "--make-shared", tree.path + "/sub")  # what a slave is one of
        made = [mount(f"/tmp/{p}{w}", tree.path, "rbind", p + w) for w in words for p in ("", "r")]
        text = table(lab, *made, mount("/tmp/both", tree.path + "/sub", "bind", "slave", "shared"))
    for word, want in words.items():
        equal(tags(text, f"/tmp/{word}") & {"shared", "unbindable"}, want, word)
        equal(tags(text, f"/tmp/r{word}") & {"shared", "unbindable"}, want, "r" + word)
        equal(tags(text, f"/tmp/r{word}/sub") & {"shared", "unbindable"}, want, f"r{word}, below")
    check("master" in tags(text, "/tmp/rslave/sub"), f"a slave of the host's: {tags(text, '/tmp/rslave/sub')}")
    check("master" not in tags(text, "/tmp/rprivate/sub"), "a private one hears of the host")
    equal(tags(text, "/tmp/both") & {"shared", "master"}, {"shared", "master"}, "slave, then shared")


def test_root_propagation(lab):
    """Whatever the root's is, the host's "/" keeps its own."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        before = f.read()
    for word, want in (("private", set()), ("slave", set()), ("shared", {"shared"}), ("unbindable", {"unbindable"}),
                       ("rprivate", set()), ("rslave", set()), ("rshared", {"shared"}), ("runbindable", {"unbindable"})):
        r = Cli(lab).run(*TABLE, change=lambda spec: spec["linux"].update(rootfsPropagation=word))  # noqa: B023
        equal(r.code, 0, f"{word}: {r.err}")
        equal(tags(r.out, "/") & {"shared", "unbindable"}, want, word)
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        equal(f.read(), before, "the host's mounts")


# ---- sources and places

def test_sources_are_the_bundles_and_the_callers(lab):
    """A relative source begins at the bundle; one that only the caller may reach is opened by the caller, also for a user namespace."""
    cli = Cli(lab)
    hidden = f"{L.LAB}/{lab.new_id('hidden')}"
    os.makedirs(hidden + "/inner")
    with open(hidden + "/inner/word", "w", encoding="ascii") as f:
        f.write("reached\n")
    os.chmod(hidden, 0o700)
    for user in (False, True):
        def change(spec):
            if user:  # noqa: B023
                mapped(spec)
            adding(mount("/tmp/a", hidden + "/inner", "bind"), mount("/tmp/b", "data", "bind"))(spec)
        id, path = cli.bundle("cat", "/tmp/a/word", "/tmp/b/word", change=change)
        os.makedirs(path + "/data")
        with open(path + "/data/word", "w", encoding="ascii") as f:
            f.write("the bundle's\n")
        r = cli("run", "-b", path, id)
        equal((r.code, r.out), (0, "reached\nthe bundle's\n"), f"user namespace {user}: {r.err}")


def test_files_of_proc_that_may_be_mounted(lab):
    tree = Tree(lab)
    tree.file("uptime", "1.00 1.00\n")
    r = Cli(lab).run("cat", "/proc/uptime", change=adding(mount("/proc/uptime", tree.path + "/uptime", "bind")))
    equal((r.code, r.out), (0, "1.00 1.00\n"), r.err)
    for place in ("/proc/cmdline", "/proc/sys/kernel/core_pattern", "/proc/self/attr/exec"):
        r = Cli(lab).run("true", change=adding(mount(place, tree.path + "/uptime", "bind")))
        check(r.code == 1 and "inside /proc" in r.err, f"{place}: {r!r}")


def test_a_bind_takes_no_data(lab):
    r = Cli(lab).run("true", change=adding(mount("/tmp/x", L.LAB, "bind", "size=4k")))
    check(r.code == 1 and "filesystem-specific options" in r.err and "/tmp/x" in r.err, repr(r))


# ---- types

def test_types(lab):
    tree = Tree(lab)
    for name in ("lower", "lower2", "upper", "work"):
        os.makedirs(f"{tree.path}/{name}")
    tree.file("lower/a", "a\n")
    tree.file("lower2/b", "b\n")
    layers = f"lowerdir={tree.path}/lower:{tree.path}/lower2"
    text = table(lab, mount("/tmp/proc", "proc", "hidepid=2", type="proc"), mount("/tmp/pids", "proc", "subset=pid", type="proc"),
                 mount("/tmp/queue", "mqueue", "nosuid", type="mqueue"), mount("/tmp/pts", "devpts", "newinstance", "ptmxmode=0666", type="devpts"),
                 mount("/tmp/sys", "sysfs", "ro", type="sysfs"), mount("/tmp/tmp", "tmpfs", "uid=5,gid=6,mode=710", type="tmpfs"),
                 mount("/tmp/over", "overlay", layers, f"upperdir={tree.path}/upper", f"workdir={tree.path}/work", type="overlay"),
                 args=("sh", "-c", "cat /proc/self/mountinfo /tmp/over/a /tmp/over/b; stat -c %u:%g:%a /tmp/tmp; ls /tmp/pids | grep -c cpuinfo; echo x > /tmp/over/c"))
    kinds = {line.split()[4]: line.split(" - ")[1] for line in text.splitlines() if " - " in line}
    for place, kind, words in (("proc", "proc", "hidepid="), ("pids", "proc", "subset=pid"), ("queue", "mqueue", ""), ("pts", "devpts", "ptmxmode=666"),
                               ("sys", "sysfs", ""), ("tmp", "tmpfs", "uid=5"), ("over", "overlay", "upperdir=")):
        got = kinds[f"/tmp/{place}"]
        check(got.startswith(kind + " ") and words in got, f"{place}: {got}")
    equal(text.splitlines()[-4:], ["a", "b", "5:6:710", "0"])
    check(os.path.exists(tree.path + "/upper/c"), "the overlay's upper directory")


def layers_of(lab, count, long=""):
    """Layers whose list is longer than a page, each with a file of its own; the directory, for the test to remove."""
    base = f"{L.LAB}/{lab.new_id('layers-in-a-directory-with-quite-a-long-name')}"
    names = []
    for n in range(count):
        names.append(f"{base}/snapshots/of,a:kind{long}/{n}/fs")
        os.makedirs(names[-1])
        with open(f"{names[-1]}/layer-{n}", "w", encoding="ascii"):
            pass
    return base, names


def test_an_overlay_with_more_layers_than_a_page_holds(lab):
    """mount(2) reads one page of options and cuts the rest off; the layers are given one by one then, also paths of more
    than 255 bytes and such with a comma or a colon."""
    for count, long in ((120, ""), (12, "-" + "x" * 200 + "/" + "y" * 200)):
        base, names = layers_of(lab, count, long)
        try:
            escaped = ":".join(n.replace(":", "\\:").replace(",", "\\,") for n in names)
            check(len(escaped) > 5000, f"{len(escaped)} bytes are no test")
            os.makedirs(base + "/up")
            os.makedirs(base + "/work")
            for kind in (NATIVE, WASM):
                options = [f"lowerdir={escaped}", f"upperdir={base}/up", f"workdir={base}/work", "nosuid"]
                change = adding(mount("/tmp/over", "overlay", *options, type="overlay"))
                if kind == WASM:
                    r = Cli(lab).run(*kind_args(kind, "ls", "/tmp/over"), change=change)
                    equal(r.out.count("layer-"), count, f"{kind}: {r!r}")
                    continue
                r = Cli(lab).run("sh", "-c", "ls /tmp/over | grep -c layer-; grep ' /tmp/over ' /proc/self/mountinfo | cut -d' ' -f6; echo > /tmp/over/new", change=change)
                equal((r.code, r.out.split()), (0, [str(count), "rw,nosuid,relatime"]), f"{kind}: {r.err}")
                check(os.path.exists(base + "/up/new"), "the upper directory")
            r = Cli(lab).run("true", change=adding(mount("/tmp/over", "overlay", f"lowerdir={escaped}:{base}/missing", type="overlay")))
            check(r.code == 1 and "mount overlay on /tmp/over" in r.err, f"a missing layer: {r!r}")
        finally:
            subprocess.run(["rm", "-rf", base], check=True)


def test_cgroups_in_a_namespace_of_their_own(lab):
    """The container's cgroup is the root of what it sees, and read-only if asked."""
    for options, writable in ((["ro"], False), ([], True)):
        def change(spec):
            namespace(spec, "cgroup")
            for m in spec["mounts"]:
                if m["type"] == "cgroup":
                    m["options"] = ["nosuid", "noexec", "nodev", *options]  # noqa: B023
        r = Cli(lab).run("sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u; d=/sys/fs/cgroup; [ -d $d/memory ] && d=$d/memory; "
                         "mkdir $d/below 2>/dev/null && rmdir $d/below && echo writable", change=change)
        equal(r.out.split(), ["/", "writable"] if writable else ["/"], f"{options}: {r.err}")


# ---- the root, and paths that are read-only

def test_the_root_keeps_what_its_mount_is_restricted_by(lab):
    cli = Cli(lab)
    id, path = cli.bundle(*TABLE)
    root = f"{path}/own"
    os.makedirs(root)
    run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noatime,size=32m", "root", root)
    try:
        run("cp", "-a", f"{L.LAB}/bundles/shared/rootfs/.", root)
        for readonly in (True, False):
            id, path = cli.bundle(*TABLE, change=lambda spec: spec.update(root={"path": root, "readonly": readonly}))  # noqa: B023
            r = cli("run", "-b", path, id)
            equal(r.code, 0, r.err)
            seen = options_of(r.out)["/"]
            equal(seen & {"ro", "rw", "nosuid", "nodev", "noatime"}, {"ro" if readonly else "rw", "nosuid", "nodev", "noatime"}, f"readonly {readonly}")
    finally:
        run("umount", root)


def test_a_root_that_is_a_link_is_refused(lab):
    for cli in [Cli(lab, name) for name in L.COMMANDS]:
        id, path = cli.bundle("true")
        os.symlink(f"{L.LAB}/bundles/shared/rootfs", path + "/link")
        cli.bundle("true", id=id, change=lambda spec: spec["root"].update(path="link"))
        r = cli("run", "-b", path, id)
        check(r.code == 1, f"{cli.name}: {r!r}")
        if cli.name == "amphora":
            contains(r.err, f"root.path: {path}/link is a symbolic link")


def test_read_only_paths(lab):
    """Their other flags stay, what is mounted below is not meant, a missing one is passed over, any other error is one."""
    with Tree(lab) as tree:
        run("mount", "-o", "remount,bind,nosuid,noatime", tree.path + "/sub")
        tree.file("file", "x\n")
        os.symlink("loop", tree.path + "/loop")

        def change(*paths):
            def apply(spec):
                adding(mount("/tmp/t", tree.path, "rbind"))(spec)
                spec["linux"]["readonlyPaths"] = list(paths)
            return apply
        r = Cli(lab).run("sh", "-c", "cat /proc/self/mountinfo; echo y > /tmp/t/file; echo y > /tmp/t/sub/new; echo y > /tmp/t/new && echo beside",
                         change=change("/tmp/t/file", "/tmp/t/sub", "/tmp/t/missing", "/proc/sys"))
        seen = options_of("\n".join(line for line in r.out.splitlines() if " - " in line))
        check({"ro", "nosuid", "noatime"} <= seen["/tmp/t/sub"] and "nodev" not in seen["/tmp/t/sub"], f"{seen['/tmp/t/sub']}")
        check("ro" in seen["/proc/sys"], f"{seen['/proc/sys']}")
        equal(r.err.count("Read-only file system"), 2, r.err)
        contains(r.out, "beside")
        r = Cli(lab).run("true", change=change("/tmp/t/loop/x"))
        check(r.code == 1 and "make /tmp/t/loop/x read-only" in r.err, repr(r))


def test_paths_without_a_mount_namespace_are_refused(lab):
    for member in ("maskedPaths", "readonlyPaths"):
        def change(spec):
            without(spec, "mount")
            spec["mounts"], spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"] = [], [], []
            spec["linux"][member] = ["/proc/kcore"]  # noqa: B023
        r = Cli(lab).run("true", change=change)
        check(r.code == 1 and f"linux.{member} needs a mount namespace" in r.err, repr(r))


# ---- id maps over what earlier mounts make

def test_idmap_of_what_earlier_mounts_make(lab):
    """In a user namespace init has no rights over the host's filesystems: the runtime maps the tree that init has opened. No
    link may choose another: whoever may write to the volume would have files of another mount mapped to its ids."""
    cli = Cli(lab)
    tree, other = Tree(lab), Tree(lab)
    os.makedirs(tree.path + "/inner")
    os.chown(tree.path + "/inner", 1000, 1000)
    tree.file("inner/f", "mapped\n", 1000, 1000, 0o600)
    other.file("secret", "of another\n", 0, 0, 0o600)
    os.symlink("../other", tree.path + "/out")
    cli.bundle("true")
    root = f"{L.LAB}/bundles/shared/rootfs"
    own = {k: [{"containerID": 1000, "hostID": 100000, "size": 1}] for k in ("uidMappings", "gidMappings")}
    secret = {k: [{"containerID": 0, "hostID": 100000, "size": 1}] for k in ("uidMappings", "gidMappings")}

    def change(source, maps):
        def apply(spec):
            mapped(spec)
            adding(mount("/tmp/vol", tree.path, "rbind"), mount("/tmp/other", other.path, "bind"),
                   mount("/tmp/m", root + source, "bind", **maps))(spec)
        return apply
    show = "stat -c %u:%g /tmp/m/f && cat /tmp/m/f && echo x > /tmp/m/new && touch /tmp/vol/inner/no"
    for kind in (NATIVE, WASM):
        if kind == WASM:
            r = cli.run(*kind_args(kind, "read", "/tmp/m/f"), change=change("/tmp/vol/inner", own))
            equal((r.code, r.out), (0, "mapped\n"), r.err)
            continue
        r = cli.run("sh", "-c", show, change=change("/tmp/vol/inner", own))
        equal(r.out.splitlines(), ["0:0", "mapped"], f"{kind}: {r!r}")
        contains(r.err, "/tmp/vol/inner/no", "the volume without the map")
        st = os.stat(tree.path + "/inner/new")
        equal((st.st_uid, st.st_gid), (1000, 1000), "the new file's owner on the host")
        os.unlink(tree.path + "/inner/new")
    r = cli.run("cat", "/tmp/m/secret", change=change("/tmp/vol/out", secret))
    check(r.code == 1 and "no part of its path may be a link" in r.err and "of another" not in r.out, repr(r))
    # A filesystem of the container's own, and one that cannot be mapped at all.
    r = cli.run("true", change=change("/proc", own))
    check(r.code == 1 and "/tmp/m" in r.err, repr(r))
