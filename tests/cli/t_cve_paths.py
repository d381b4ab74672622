# SPDX-License-Identifier: Apache-2.0
"""Attacks by names: images whose links lead elsewhere, and racers that exchange a directory for a link
while a container is made. Each case is named by the CVE it is shaped after (docs/security-tests.md),
and runs with and without openat2. Not here: credentials, descriptors, executables (t_cve_process)."""

import os
import shutil
import stat

from tests.support import inventory
from tests.support import lab as L
from tests.support.attack import HOST, ROUNDS, Image, commands, host_directory, outside_mounts, racing
from tests.support.command import NATIVE, WASM, kind_args
from tests.support.runner import check, contains, equal

KINDS = (NATIVE, WASM)
# Names in the host's root, a bundle, a state directory, a cgroup; none is in the images here.
OF_THE_HOST = {"boot", "mnt", "config.json", "state.json", "tasks", "cgroup.procs", "lost+found"}


def tmpfs_on(destination):
    return {"destination": destination, "type": "tmpfs", "source": "from-the-spec", "options": ["nosuid"]}


def without(spec, *destinations):
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] not in destinations]


def writable(spec):
    spec["root"]["readonly"] = False


def test_2019_18837_an_absolute_link_as_mount_target_stays_inside(lab):
    for amphora in commands(lab):
        for kind in KINDS:
            image = Image(lab, "abs")
            with host_directory():
                image.link("/data", HOST + "/dir")
                image.link("/up", "../../../../../../../.." + HOST + "/dir/target")

                def change(spec):
                    writable(spec)
                    spec["mounts"] += [tmpfs_on("/data"), tmpfs_on("/up/new"),
                                       {"destination": "/data/bound", "type": "bind", "source": image.root + "/etc",
                                        "options": ["bind"]}]
                    spec["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": [
                        "sh", "-c", f"cat /proc/self/mountinfo > {image.path}/mounts"]}]}
                r = amphora.of(image, *kind_args(kind, "echo", "inside"), change=change)
                equal((r.code, r.out), (0, "inside\n"), f"{amphora} {kind}: {r.err}")
                with open(image.path + "/mounts", encoding="utf-8") as f:
                    equal(outside_mounts(f.read(), image.root.removeprefix(L.LAB)), [], f"{amphora} {kind}")
            check(os.path.isdir(image.root + HOST + "/dir"), "the link was followed inside the root")
            image.remove()


def test_2019_19921_2023_27561_2023_28642_proc_and_sys_must_be_real_directories(lab):
    for amphora in commands(lab):
        for kind in KINDS:
            for name in ("/proc", "/sys"):
                image = Image(lab, "link")
                image.link(name, "/data")
                r = amphora.of(image, *kind_args(kind, "true"))
                check(r.code != 0, f"{amphora} {kind}: {name} as a link was accepted")
                contains(r.err, "must be mounted on ordinary directory", f"{amphora} {kind} {name}")
                image.remove()


def test_2019_16884_a_volume_over_proc_is_refused(lab):
    for amphora in commands(lab):
        for destination in ("/proc", "/proc/self/attr", "/sys/../proc/self"):
            image = Image(lab, "vol")
            os.makedirs(image.path + "/fake/self/attr")

            def change(spec):
                spec["mounts"].append({"destination": destination, "type": "bind", "source": image.path + "/fake",
                                       "options": ["bind"]})
            r = amphora.of(image, "true", change=change)
            check(r.code != 0, f"{amphora}: a volume on {destination} was accepted")
            contains(r.err, "proc", str(amphora))
            image.remove()


def racing_create(lab, amphora, pairs, mounts, probe, expect, more=None, fill=None, must_run=True):
    """Makes containers while `pairs` of the image are exchanged. Every run is either refused or shows
    `expect`; both the host's files and the mount table are looked at."""
    image = Image(lab, "race")
    ran = 0
    with host_directory():
        if fill:
            fill(image)
        names = []
        for name, target in pairs:
            os.makedirs(image.root + name, exist_ok=True)
            image.link(name + "-swap", target)
            names += [image.root + name, image.root + name + "-swap"]

        def change(spec):
            writable(spec)
            spec["mounts"] += mounts
            spec["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": [
                "sh", "-c", f"cat /proc/self/mountinfo > {image.path}/mounts"]}]}
            if more:
                more(spec)
        with racing(*names):
            done = 0
            # Longer where every create so far met a link and was refused.
            while done < ROUNDS or (must_run and ran == 0 and done < 400):
                done += 1
                r = amphora.of(image, *probe, change=change)
                if r.code == 0:
                    ran += 1
                    expect(r)
                if os.path.exists(image.path + "/mounts"):
                    with open(image.path + "/mounts", encoding="utf-8") as f:
                        equal(outside_mounts(f.read(), image.root.removeprefix(L.LAB)), [], str(amphora))
    image.remove()
    return ran


def test_2021_30465_a_mount_target_exchanged_for_a_link(lab):
    for amphora in commands(lab):
        ran = racing_create(lab, amphora, [("/data/a", HOST + "/dir"), ("/data/b", "../../../../../../.." + HOST)],
                            [tmpfs_on("/data/a"), tmpfs_on("/data/b/dir/target"), tmpfs_on("/data/a/b")],
                            ["sh", "-c", "cat /data/a/secret /data/b/secret 2>/dev/null; ls /"],
                            lambda r: check("of the host" not in r.out, f"the host's file was read: {r.out}"))
        check(ran > 0, f"{amphora}: no container was made")


def test_2024_45310_missing_targets_make_nothing_on_the_host(lab):
    for amphora in commands(lab):
        def again(image):
            shutil.rmtree(image.root + "/data/a/made", ignore_errors=True)
        ran = racing_create(lab, amphora, [("/data/a", HOST + "/dir")],
                            [tmpfs_on("/data/a/made/deep"),
                             {"destination": "/data/a/file", "type": "bind", "source": L.LAB + "/prefix/bin/amphora",
                              "options": ["bind", "ro"]}],
                            ["true"], lambda r: None, fill=again)
        check(ran > 0, f"{amphora}: no container was made")


def test_2019_19921_proc_exchanged_for_a_link(lab):
    for amphora in commands(lab):
        def expect(r):
            check("of the image" not in r.out, "a fake proc was used")
            contains(r.out, " proc rw", "the container's own procfs")
        racing_create(lab, amphora, [("/proc", "/data")], [], ["cat", "/proc/self/mounts"], expect, must_run=False)


def test_2026_41579_dev_of_the_image_is_a_link(lab):
    for amphora in commands(lab):
        for target in (HOST + "/dir", "/data"):
            image = Image(lab, "dev")
            with host_directory():
                os.makedirs(image.root + HOST + "/dir", exist_ok=True)
                image.link("/dev", target)

                def change(spec):
                    writable(spec)
                    without(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
                r = amphora.of(image, "true", change=change)
                check(r.code != 0, f"{amphora}: /dev as a link to {target} was accepted")
                contains(r.err, "/dev", str(amphora))
                equal(os.listdir(image.root + "/data"), [], "what the link leads to")
            image.remove()


def test_2026_88264_the_console_is_not_made_through_a_link(lab):
    for amphora in commands(lab):
        image = Image(lab, "cons")
        with host_directory():
            image.link("/dev/console", "../../../../../../../.." + HOST + "/new")
            image.spec("true", terminal=True, change=lambda spec: (writable(spec), without(spec, "/dev", "/dev/shm", "/dev/mqueue")))
            r = L.on_terminal([*amphora.front, "amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                              env=lab.env)
            check(not os.path.exists(image.root + HOST + "/new"), "the link was followed inside the root")
            check(r.code != 0, f"{amphora}: the console was made through a link: {r.out}")
        image.remove()


def test_2025_52565_the_console_is_a_pty_of_the_container(lab):
    for amphora in commands(lab):
        image = Image(lab, "pts")
        with host_directory():
            for name in ("0", "1"):
                image.link(f"/dev/pts/{name}", HOST + "/secret")
            image.spec("stat", "-c", "%F %t", "/dev/console", "/proc/self/fd/0", "-L", terminal=True)
            r = L.on_terminal([*amphora.front, "amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                              env=lab.env)
            equal((r.code, r.out.split("\r\n")[:2]), (0, ["character special file 88"] * 2), str(amphora))
            # A devpts that is none: the pty's master would be a file of the image.
            image.file("/fake/ptmx", "a trap\n")

            def no_devpts(spec):
                without(spec, "/dev/pts")
                spec["mounts"].append({"destination": "/dev/pts", "type": "bind", "source": image.root + "/fake",
                                       "options": ["bind"]})
            image.spec("true", terminal=True, change=no_devpts)
            r = L.on_terminal([*amphora.front, "amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                              env=lab.env)
            check(r.code != 0, f"{amphora}: a fake ptmx was taken")
            contains(r.out, "set up the terminal", str(amphora))
        image.remove()


def test_2025_52565_pts_exchanged_for_a_directory_of_links(lab):
    """Where /dev is a shared volume, who has it too may exchange /dev/pts for a directory whose "0" leads to a file that is
    not masked yet: whatever was seen there when the terminal was made, /dev/console is a pty."""
    for amphora in commands(lab):
        image = Image(lab, "swap")
        with host_directory():
            volume = image.path + "/dev"
            for name in ("pts", "swap"):
                os.makedirs(f"{volume}/{name}")
            for n in range(4):
                os.symlink("/proc/sys/kernel/core_pattern", f"{volume}/swap/{n}")

            def change(spec):
                writable(spec)
                without(spec, "/dev", "/dev/shm", "/dev/mqueue")
                at = next(i for i, m in enumerate(spec["mounts"]) if m["destination"] == "/dev/pts")
                spec["mounts"].insert(at, {"destination": "/dev", "type": "bind", "source": volume, "options": ["bind"]})
            image.spec("stat", "-L", "-c", "%F %t", "/dev/console", terminal=True, change=change)
            made = done = 0
            with racing(volume + "/pts", volume + "/swap"):
                while done < ROUNDS or (made == 0 and done < 400):
                    done += 1
                    r = L.on_terminal([*amphora.front, "amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                                      env=lab.env)
                    if r.code != 0:
                        continue  # it met the other directory, or the console's name
                    made += 1
                    equal(r.out.split("\r\n")[0], "character special file 88", f"{amphora}: the console")
            check(made > 0, f"{amphora}: no container was made")
        image.remove()


def test_2025_31133_masks_are_the_hosts_null_device(lab):
    for amphora in commands(lab):
        for kind in KINDS:
            image = Image(lab, "null")
            os.makedirs(image.root + "/dev", exist_ok=True)
            image.link("/dev/null", "/proc/sys/kernel/core_pattern")
            image.file("/etc/masked", "the image's own\n")

            def change(spec):
                without(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
                writable(spec)
                spec["linux"]["maskedPaths"] += ["/etc/masked"]
            r = amphora.of(image, *kind_args(kind, "cat", "/etc/masked"), change=change)
            check(r.code != 0 and r.out == "", f"{amphora} {kind}: {r!r}")
            contains(r.err, "device /dev/null", f"{amphora} {kind}")
            # With the runtime's own /dev the mask is a null device, whatever the image holds.
            r = amphora.of(image, "stat", "-c", "%t:%T", "/etc/masked", "/proc/version",
                           change=lambda spec: spec["linux"]["maskedPaths"].extend(["/etc/masked", "/proc/version"]))
            equal((r.code, r.out), (0, "1:3\n1:3\n"), f"{amphora}: {r.err}")
            image.remove()


def test_2025_31133_a_masked_path_that_cannot_be_reached_is_an_error(lab):
    for amphora in commands(lab):
        image = Image(lab, "loop")
        image.link("/etc/loop", "loop")
        r = amphora.of(image, "true", change=lambda spec: spec["linux"]["maskedPaths"].append("/etc/loop/x"))
        check(r.code != 0, f"{amphora}: an unreachable masked path was passed over")
        contains(r.err, "mask /etc/loop/x", str(amphora))
        r = amphora.of(image, "true", change=lambda spec: spec["linux"]["maskedPaths"].append("/etc/nothing"))
        equal(r.code, 0, f"{amphora}: a missing masked path: {r.err}")
        image.remove()


def test_2026_88265_the_images_null_is_never_stdio_nor_given_away(lab):
    for amphora in commands(lab):
        image = Image(lab, "own")
        with host_directory():
            image.file("/dev/null", "a file\n")

            def change(spec):
                without(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
                writable(spec)
                spec["process"]["user"] = {"uid": 1000, "gid": 1000}
                spec["mounts"].append({"destination": "/dev/null", "type": "bind", "source": HOST + "/secret",
                                       "options": ["bind"]})
            r = amphora.of(image, "true", change=change, stdin="x")
            check(r.code != 0, f"{amphora}: a file as /dev/null was accepted")
            contains(r.err, "/dev/null", str(amphora))
            # The caller's own files stay the caller's.
            image.spec("true", change=lambda spec: spec["process"].update(user={"uid": 1000, "gid": 1000}))
            with open(image.path + "/stdio", "w+b") as f:
                import subprocess
                code = subprocess.run([*amphora.front, "amphora", "--root", amphora.root, "run", "-b", image.path, image.id],
                                      env=lab.env, stdin=f, stdout=f, stderr=f, check=False).returncode
                equal((code, os.fstat(f.fileno()).st_uid), (0, 0), str(amphora))
        image.remove()


def test_2024_21626_no_working_directory_outside(lab):
    for amphora in commands(lab):
        for kind in KINDS:
            image = Image(lab, "cwd")
            image.link("/here", "/proc/self/fd/7")
            refused = 0
            for n in list(range(3, 21)) + [None]:
                cwd = "/here" if n is None else f"/proc/self/fd/{n}"
                r = amphora.of(image, *kind_args(kind, "ls", "."), change=lambda spec: spec["process"].update(cwd=cwd))
                # A directory of the container may be behind such a name; one of the host may not.
                check(not OF_THE_HOST & set(r.out.split()), f"{amphora} {kind}: cwd {cwd} was entered: {r.out}")
                refused += r.code != 0 and "chdir to cwd " + cwd in r.err
            check(refused > 15, f"{amphora} {kind}: {refused} of 19 refused")
            # A missing one is made, and nothing that it took stays open.
            id = amphora.start(image, *kind_args(kind, "sleep", "1000"),
                               change=lambda spec: (writable(spec), spec["process"].update(cwd="/data/new/deep")))
            pid = amphora.state(id)["pid"]
            equal(os.readlink(f"/proc/{pid}/cwd"), "/data/new/deep", f"{amphora} {kind}")
            held = [name for n, name in inventory.descriptors(pid).items() if int(n) > 2]
            # A guest holds the directories that it may open files in and its view's namespace, and its engine the compiled module.
            inside = {"/" + n for n in os.listdir(image.root)} | {"/", "/data/new/deep"} if kind == WASM else set()
            views = [name for name in held if name.startswith("mnt:") and name != os.readlink("/proc/self/ns/mnt")]
            others = [name for name in held if name not in inside and not
                      (kind == WASM and (name.startswith("anon_inode:") or name.endswith(".art") or [name] == views))]
            equal(others, [], f"{amphora} {kind}: descriptors of pid 1")
            amphora.end(id)
            image.remove()


def test_2024_21626_exec_enters_nothing_of_the_host(lab):
    for amphora in commands(lab):
        image = Image(lab, "cwd")
        image.link("/here", "/proc/self/fd/9")
        amphora.start(image, "sleep", "1000")
        for cwd in [f"/proc/self/fd/{n}" for n in range(3, 21)] + ["/here", "/proc/1/../../../.."]:
            r = amphora("exec", "--cwd", cwd, image.id, "sh", "-c", "pwd -P; ls -a .")
            check(not OF_THE_HOST & set(r.out.split()), f"{amphora}: exec in {cwd} shows the host: {r.out}")
        r = amphora("exec", image.id, "ls", "/proc/self/fd")
        equal(r.out.split()[:3] + r.out.split()[4:], ["0", "1", "2"], f"{amphora}: descriptors")
        equal(sorted(os.listdir(f"/proc/{amphora.state(image.id)['pid']}/fd")), ["0", "1", "2"], "those of pid 1")
        amphora.end(image.id)
        image.remove()


def test_2025_24965_files_read_from_an_image_stay_inside(lab):
    for amphora in commands(lab):
        image = Image(lab, "home")
        with host_directory():
            with open(HOST + "/passwd", "w", encoding="utf-8") as f:
                f.write("root:x:0:0::/home-of-the-host:/bin/sh\n")
            image.link("/etc/passwd", HOST + "/passwd")
            r = amphora.of(image, "sh", "-c", "echo $HOME")
            os.unlink(HOST + "/passwd")
            equal((r.code, r.out), (0, "/\n"), f"{amphora}: {r.err}")
            # A module behind a link: looked for in the image alone.
            shutil.copy(L.GUESTS + "/demo.wasm", HOST + "/demo.wasm")
            image.link("/module", HOST + "/demo.wasm")
            image.link("/module-up", "../../../../../../../../.." + HOST + "/demo.wasm")
            for name in ("/module", "/module-up"):
                r = amphora.of(image, name, "echo", "hello")
                check(r.code != 0 and "hello" not in r.out, f"{amphora}: the host's module ran: {r!r}")
                contains(r.err, name, str(amphora))
            os.unlink(HOST + "/demo.wasm")
        image.remove()


def test_2025_24965_a_fifo_or_device_as_passwd_stalls_nobody(lab):
    for amphora in commands(lab):
        image = Image(lab, "fifo")
        os.unlink(image.root + "/etc/passwd")
        os.mkfifo(image.root + "/etc/passwd")
        r = amphora.of(image, "sh", "-c", "echo $HOME")
        equal((r.code, r.out), (0, "/\n"), f"{amphora}: {r.err}")
        os.unlink(image.root + "/etc/passwd")
        os.mknod(image.root + "/etc/passwd", 0o644 | stat.S_IFCHR, os.makedev(1, 5))
        r = amphora.of(image, "sh", "-c", "echo $HOME")
        equal((r.code, r.out), (0, "/\n"), f"{amphora}: {r.err}")
        image.remove()


def test_2026_115521_the_root_is_read_only_whatever_proc_the_image_brings(lab):
    for amphora in commands(lab):
        for kind in KINDS:
            image = Image(lab, "ro")
            os.makedirs(image.root + "/proc/self/fd", exist_ok=True)
            for n in range(3, 40):
                image.link(f"/proc/self/fd/{n}", "/data")

            def change(spec):
                without(spec, "/proc")
                spec["linux"]["maskedPaths"] = []
                spec["linux"]["readonlyPaths"] = []
            r = amphora.of(image, *kind_args(kind, "write", "/etc/made", "text"), change=change) if kind == WASM else \
                amphora.of(image, "sh", "-c", "echo text > /etc/made", change=change)
            check(r.code != 0, f"{amphora} {kind}: the root is writable")
            check(not os.path.exists(image.root + "/etc/made"), f"{amphora} {kind}: the file was made")
            image.remove()
