# SPDX-License-Identifier: Apache-2.0
"""A private containerd in namespaces that inroot.sh made: own root, state, address and image store,
our own binaries first in its PATH. Lab starts it, wraps ctr, and keeps the inventory. Not here: what
is tested (tests/shim, tests/cli), images' bytes (images.py)."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

from tests.support import fixtures, inventory
from tests.support.runner import Failed, eventually

AMPHORA = "io.containerd.amphora.v1"
RUNC = "io.containerd.runc.v2"
COMMANDS = tuple(os.environ.get("LAB_COMMANDS", "runc amphora").split())
RUNTIMES = tuple(os.environ.get("LAB_RUNTIMES", f"{RUNC} {AMPHORA}").split())
NATIVE, WASM, MIXED = ("amphora.test/native:1", "amphora.test/wasm:1", "amphora.test/mixed:1")

LAB = "/mnt/lab"
# Where our programs are: the prefix that the suite has installed, or where a package has put them.
BIN = os.environ.get("LAB_BIN", LAB + "/prefix/bin")
GUESTS = LAB + "/guests"
STATE = "/run/lab"
SOCKET = STATE + "/containerd.sock"
METRICS = "127.0.0.1:1338"  # in the lab's own network namespace
ROOT = LAB + "/containerd"
# Directories that are made once and stay: parents of what containers leave and take away.
_PARENTS = (r"^/run/(lab(/containerd\.sock.*|/debug\.sock|/io\.containerd\.[a-z.0-9-]+(/amph[^/]*)?)?|containerd(/s|/fifo|/runc|"
            r"/runc/[^/]+|/amphora|/amphora/[^/]+|/io\.containerd[^/]*(/[^/]+)?)?|"
            r"amphora(/[a-z][^/]*)?|cli-[a-z]+|criu\.kdat|netns|lock|mount|mount/utab.*|runc|crun|systemd.*)$")


class Result:
    """A finished command."""

    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out!r}, stderr {self.err!r}"

    def ok(self):
        if self.code != 0:
            raise Failed(f"command failed: {self!r}")
        return self


def command(argv, stdin="", timeout=60, env=None, cwd=None, pass_fds=()):
    """Runs argv to its end with text in and out."""
    begun = time.monotonic()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=env, cwd=cwd, pass_fds=pass_fds)
    try:
        out, err = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            out, err = process.communicate(timeout=1)
        except subprocess.TimeoutExpired as held:  # whatever it started holds our pipes open
            out, err = held.stdout or b"", held.stderr or b""
        raise Failed(f"no end within {timeout} s: {' '.join(argv)}; "
                     f"stdout {out[-500:]!r}, stderr {err[-500:]!r}") from None
    return Result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"),
                  time.monotonic() - begun)


def on_terminal(argv, typed=b"", until=None, timeout=30, env=None, size=(24, 80), delay=0):
    """Runs argv on a fresh pty; types `typed` after `delay` seconds, or when `until` was printed.
    Returns its Result, all output as stdout."""
    begun = time.monotonic()
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.execvpe(argv[0], argv, env or os.environ)
        finally:
            os._exit(127)
    import fcntl, struct, termios  # noqa: E401  (only here)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    seen, sent = b"", False
    while True:
        if time.monotonic() - begun > timeout:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Failed(f"no end within {timeout} s on a terminal: {' '.join(argv)}; saw {seen!r}")
        if not sent and until is None and time.monotonic() - begun >= delay:
            sent = True
            os.write(master, typed)
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the other side is closed
                data = b""
            if not data:
                break
            seen += data
            if not sent and until is not None and until in seen:
                sent = True
                os.write(master, typed)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return Result(os.waitstatus_to_exitcode(status), seen.decode(errors="replace"), "",
                  time.monotonic() - begun)


class Attached:
    """A `ctr run --rm` in the background, up since its first line of output."""

    def __init__(self, process, id, first):
        self.process, self.id, self.first = process, id, first
        self.begun = time.monotonic()

    def wait(self, timeout=10):
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise Failed(f"{self.id} has not ended within {timeout} s: {out[-300:]!r} {err[-300:]!r}"
                         ) from None
        return Result(self.process.returncode, self.first + out.decode(errors="replace"),
                      err.decode(errors="replace"), time.monotonic() - self.begun)


class Lab:
    """The private containerd and all that a case needs."""

    def __init__(self, name):
        self.namespace = "amph-" + name
        self.daemon = None
        self.log_path = LAB + "/containerd.log"
        self.numbers = {}
        self.before = None
        self.ready_images = set()
        self.env = dict(os.environ, PATH=BIN + ":" + os.environ["PATH"],
                        CONTAINERD_ADDRESS=SOCKET, CONTAINERD_NAMESPACE=self.namespace,
                        CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS="1")  # ctr 2.4 warns of cgroup v1 on every stderr
        self.env.pop("XDG_RUNTIME_DIR", None)

    # ---- the daemon

    def start(self):
        os.makedirs(STATE, exist_ok=True)
        os.makedirs(ROOT, exist_ok=True)
        if not os.path.ismount(ROOT):  # containerd wants its root to be a mount with known propagation
            subprocess.run(["mount", "--bind", ROOT, ROOT], check=True)
        with open(LAB + "/containerd.toml", "w", encoding="utf-8") as f:
            f.write(f'version = 2\nroot = "{ROOT}"\nstate = "{STATE}"\n'
                    'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", '
                    '"io.containerd.cri.v1.runtime", '
                    # Only where `ctr install` is what is tested: it makes a directory of the root's own.
                    + ('' if os.environ.get("LAB_OPT") else '"io.containerd.internal.v1.opt", ') +
                    '"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", '
                    '"io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", '
                    '"io.containerd.nri.v1.nri"]\n'
                    f'[grpc]\n  address = "{SOCKET}"\n[debug]\n  level = "debug"\n'
                    f'  address = "{STATE}/debug.sock"\n[metrics]\n  address = "{METRICS}"\n')
        log = open(self.log_path, "ab")
        self.daemon = subprocess.Popen(["containerd", "-c", LAB + "/containerd.toml"], env=self.env,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        eventually(lambda: self.daemon.poll() is not None or self.ctr("version", timeout=5).code == 0,
                   20, "containerd answers")
        if self.daemon.poll() is not None:
            raise RuntimeError("containerd ended: " + self.log_tail(2000))
        return self

    def kill_daemon(self):
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(10)
        except subprocess.TimeoutExpired:
            self.kill_daemon()
        for path in sorted(inventory.cgroups([self.namespace]), key=len, reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass

    def log_tail(self, size):
        with open(self.log_path, "rb") as f:
            f.seek(max(0, os.path.getsize(self.log_path) - size))
            return f.read().decode(errors="replace")

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_since(self, offset):
        with open(self.log_path, "rb") as f:
            f.seek(offset)
            return f.read().decode(errors="replace")

    # ---- ctr

    def ctr(self, *args, stdin="", timeout=60):
        return command(["ctr", *args], stdin, timeout, self.env)

    def containerd_version(self):
        """Of the containerd that runs: (1, 6), (2, 1), ..."""
        words = subprocess.run(["containerd", "--version"], env=self.env, capture_output=True, text=True, check=True).stdout.split()
        number = next(w.lstrip("v") for w in words if w.lstrip("v")[:1].isdigit())
        return tuple(int(part) for part in number.split(".")[:2])

    def new_id(self, word="c"):
        self.numbers[word] = self.numbers.get(word, 0) + 1
        return f"{word}{self.numbers[word]}"

    def run(self, runtime, image, *cmd, options=(), id=None, stdin="", timeout=60, remove=True):
        """ctr run, to its end (or detached, when options say -d)."""
        return self.ctr("run", *(["--rm"] if remove and "-d" not in options else []), "--runtime",
                        runtime, *options, image, id or self.new_id(), *cmd, stdin=stdin,
                        timeout=timeout)

    def attached(self, runtime, image, *cmd, options=(), id=None):
        """ctr run --rm in the background; returns after its first line of output."""
        id = id or self.new_id()
        process = subprocess.Popen(["ctr", "run", "--rm", "--runtime", runtime, *options, image, id,
                                    *cmd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.env, bufsize=0)
        first = b""
        while not first.endswith(b"\n"):
            byte = process.stdout.read(1)
            if not byte:
                raise Failed(f"{id} ended before its first line: {process.communicate()[1]!r}")
            first += byte
        return Attached(process, id, first.decode(errors="replace"))

    def detached(self, runtime, image, *cmd, options=(), id=None):
        id = id or self.new_id()
        self.run(runtime, image, *cmd, options=["-d", *options], id=id).ok()
        return id

    def task_status(self, id):
        for line in self.ctr("task", "ls").ok().out.splitlines()[1:]:
            fields = line.split()
            if fields[0] == id:
                return fields[2]
        return None

    def pid(self, id):
        for line in self.ctr("task", "ls").ok().out.splitlines()[1:]:
            fields = line.split()
            if fields[0] == id:
                return int(fields[1])
        raise Failed(f"no task {id}")

    def end(self, *ids, sig="SIGKILL"):
        """Kills the tasks and removes task and container."""
        for id in ids:
            self.ctr("task", "kill", "-s", sig, id)
        for id in ids:
            eventually(lambda: self.task_status(id) in ("STOPPED", None), 10, f"{id} stops")
            self.ctr("task", "delete", id)
            self.ctr("container", "delete", id)

    def bundle(self, id):
        return f"{STATE}/io.containerd.runtime.v2.task/{self.namespace}/{id}"

    def shim_socket(self, id):
        with open(self.bundle(id) + "/address", encoding="utf-8") as f:
            return f.read().strip().removeprefix("unix://")

    def shims(self, binary="containerd-shim-amphora-v1"):
        return [pid for pid, line in inventory.processes().items()
                if line.split() and line.split()[0].endswith(binary) and "[zombie]" not in line]

    # ---- images

    def image_as(self, kind, user):
        """The image of a kind (native, wasm, mixed), with a user of its own when given."""
        name = f"amphora.test/{kind}{'-' if user else ''}{user.replace(':', '-')}:1"
        if name not in self.ready_images:
            os.makedirs(LAB + "/images", exist_ok=True)
            tar = f"{LAB}/images/{kind}{user.replace(':', '-')}.tar"
            fixtures.write(tar, name, kind, GUESTS, user)
            self.ctr("images", "import", tar).ok()
            self.ready_images.add(name)
        return name

    def load_images(self):
        for kind in ("native", "wasm", "mixed"):
            self.image_as(kind, "")

    def native_as(self, user):
        return self.image_as("native", user)

    def wasm_as(self, user):
        return self.image_as("wasm", user)

    def mixed_as(self, user):
        return self.image_as("mixed", user)

    # ---- inventory

    def _count(self):
        return {
            "processes": {f"{pid} {line}" for pid, line in inventory.processes().items()
                          if "[zombie]" not in line and f"{pid}" != str(os.getpid())},
            "mounts": inventory.mounts(),
            "cgroups": {p for p in inventory.cgroups([self.namespace])
                        if not p.endswith("/" + self.namespace)},
            "run entries": inventory.run_entries(["/run", "/tmp"], _PARENTS),
            "network namespaces": inventory.network_namespaces(),
        }

    def before_case(self, name):
        del name
        self.before = self._count()

    def after_case(self, name, failed):
        """What the case left behind, as text; cleans it away so that the next one starts whole."""
        del name
        end = time.monotonic() + (0.5 if failed else 4)
        while True:
            now = self._count()
            left = {kind: now[kind] - self.before[kind] for kind in now}
            # containerd itself may have been restarted by the case.
            left["processes"] = {p for p in left["processes"] if " containerd -c " not in p}
            if not any(left.values()) or time.monotonic() > end:
                break
            time.sleep(0.05)
        if not any(left.values()):
            return ""
        text = "; ".join(f"{kind}: {', '.join(sorted(lines)[:6])}" for kind, lines in left.items()
                         if lines)
        self._purge(left)
        return text

    def _purge(self, left):
        for id in self.ctr("container", "ls", "-q").out.split():
            self.ctr("task", "delete", "-f", id)
            self.ctr("container", "delete", id)
        for line in left["processes"]:
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.1)
        for mount in left["mounts"]:
            subprocess.run(["umount", "-l", mount.split()[0]], stderr=subprocess.DEVNULL, check=False)
        for path in sorted(left["cgroups"], key=len, reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass
        for path in left["run entries"]:
            if re.match(r"^/(run|tmp)/", path) and not os.path.isdir(path):
                try:
                    os.unlink(path)
                except OSError:
                    pass
            else:
                shutil.rmtree(path, ignore_errors=True)
