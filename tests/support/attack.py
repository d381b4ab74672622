# SPDX-License-Identifier: Apache-2.0
"""What the security cases share: a hostile image (a root filesystem of the case's own, to plant things
in), the command with or without openat2, racers, and what lies on the host to be reached."""

import contextlib
import os
import shutil
import signal
import subprocess

from tests.support import bundle
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import Failed, check

ATTACK = L.GUESTS + "/attack"
HOST = L.LAB + "/host"  # what an attack must not reach, by absolute path
# Races are run this often; `./dev soak` asks for more. The view of cgroups does not matter to names.
ROUNDS = int(os.environ.get("AMPHORA_RACE_ROUNDS") or (40 if os.environ.get("CGVIEW") != "v2" else 8))


class Image:
    """A bundle with a root filesystem of its own."""

    def __init__(self, lab, word):
        self.id = lab.new_id(word)
        self.path = f"{L.LAB}/bundles/evil-{self.id}"
        self.root = self.path + "/rootfs"
        self.lab = lab
        shutil.rmtree(self.path, ignore_errors=True)
        bundle.make_bundle(self.path, L.GUESTS, ["true"])
        shutil.copy(ATTACK, self.root + "/bin/attack")

    def spec(self, *args, change=None, terminal=False):
        spec = bundle.default_spec(args or ["true"], terminal)
        spec["linux"]["cgroupsPath"] = f"/{self.lab.namespace}/{self.id}"
        if change:
            change(spec)
        bundle.write_config(self.path, spec)

    def link(self, name, target):
        """`name` of the image is a symbolic link, whatever it was."""
        path = self.root + name
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)

    def file(self, name, text="", mode=0o644):
        os.makedirs(os.path.dirname(self.root + name), exist_ok=True)
        with open(self.root + name, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.root + name, mode)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Command(Cli):
    """amphora, in a sandbox without openat2 when `blocked`."""

    def __init__(self, lab, blocked=False):
        super().__init__(lab)
        self.root = "/run/cli-attack"
        self.blocked = blocked
        self.front = [ATTACK, "no-openat2"] if blocked else []

    def __call__(self, *args, stdin="", timeout=30, cwd=None):
        return L.command([*self.front, self.name, "--root", self.root, *args], stdin, timeout, self.lab.env, cwd)

    def detached(self, *args):
        return super().detached(*args, front=self.front)

    def start(self, image, *args, change=None):
        """A running container of the image; its id."""
        image.spec(*args, change=change)
        self.detached("run", "-d", "-b", image.path, image.id).ok()
        return image.id

    def of(self, image, *args, change=None, stdin=""):
        """run of the image to its end."""
        image.spec(*args, change=change)
        return self("run", "-b", image.path, image.id, stdin=stdin)

    def __str__(self):
        return "without openat2" if self.blocked else "with openat2"


def commands(lab):
    return [Command(lab), Command(lab, blocked=True)]


@contextlib.contextmanager
def host_directory():
    """HOST with one secret in it; whatever happens, nothing but that may be there afterwards."""
    shutil.rmtree(HOST, ignore_errors=True)
    os.makedirs(HOST + "/dir/target")
    with open(HOST + "/secret", "w", encoding="utf-8") as f:
        f.write("of the host\n")
    before = contents(HOST)
    yield before
    check(contents(HOST) == before, f"the host's files changed: {sorted(contents(HOST) ^ before)}")
    shutil.rmtree(HOST, ignore_errors=True)


def contents(top):
    """Every name below with what tells a change: kind, owner, links, size."""
    found = set()
    for root, directories, files in os.walk(top):
        for name in directories + files:
            st = os.lstat(os.path.join(root, name))
            found.add((os.path.join(root, name), oct(st.st_mode), st.st_uid, st.st_nlink, st.st_size))
    return found


@contextlib.contextmanager
def racing(*pairs):
    """Each two names are exchanged all the time."""
    racer = subprocess.Popen([ATTACK, "race", *pairs])
    try:
        yield
        check(racer.poll() is None, "the racer ended by itself: no race was run")
    finally:
        racer.send_signal(signal.SIGKILL)
        racer.wait()


def outside_mounts(mountinfo, rootfs):
    """Mounts of a container's table, taken before its pivot, that hang neither below its root nor
    among the ones that were there before: parent chains are followed to the rootfs's own mount."""
    rows = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        rows[fields[0]] = (fields[1], fields[3], fields[4], line)
    roots = [i for i, (_, root, point, _) in rows.items() if root.endswith(rootfs) and (point == "/" or point.endswith(rootfs))]
    if not roots:
        raise Failed("the container's root is not in its mount table:\n" + mountinfo)
    bad = []
    for i, (parent, _, point, line) in rows.items():
        if "from-the-spec" not in line:
            continue
        at = i
        while at in rows and at not in roots:
            at = rows[at][0]
        if at not in roots:
            bad.append(point)
    return bad
