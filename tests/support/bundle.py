# SPDX-License-Identifier: Apache-2.0
"""OCI bundles by hand: a root with busybox and our guests, and the config.json that `runc spec` would
give, as a dict to change."""

import json
import os
import subprocess

from tests.support import images

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def default_spec(args, terminal=False):
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": list(args),
            "env": [images.PATH, "TERM=xterm"], "cwd": "/",
            "capabilities": {k: list(CAPABILITIES) for k in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "amphora-test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                            "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                            "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def write_config(bundle, spec):
    with open(bundle + "/config.json", "w", encoding="utf-8") as f:
        json.dump(spec, f)


def make_bundle(path, guests, args, cgroup=None, terminal=False, change=None):
    """A bundle at `path`; returns the path. `change` may edit the spec."""
    root = path + "/rootfs"
    if not os.path.isdir(root):
        for name in images.DIRECTORIES.split() + ["tmp"]:
            os.makedirs(f"{root}/{name}", exist_ok=True)
        os.chmod(root + "/tmp", 0o1777)
        subprocess.run(["cp", "/bin/busybox", root + "/bin/busybox"], check=True)
        for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True,
                                   check=True).stdout.split():
            if name != "busybox":
                os.link(root + "/bin/busybox", f"{root}/bin/{name}")
        for source, target in (("demo", "bin/demo"), ("true", "bin/true0"), ("demo.wasm", "app.wasm")):
            subprocess.run(["cp", f"{guests}/{source}", f"{root}/{target}"], check=True)
        for name, body in (("passwd", images.PASSWD), ("group", images.GROUP)):
            with open(f"{root}/etc/{name}", "wb") as f:
                f.write(body)
    spec = default_spec(args, terminal)
    if cgroup:
        spec["linux"]["cgroupsPath"] = cgroup
    if change:
        change(spec)
    write_config(path, spec)
    return path
