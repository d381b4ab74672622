# SPDX-License-Identifier: Apache-2.0
"""A lab without containerd, for suites that use the command alone and run beside a live systemd: in the
guest of tests/vm, or under sdns.sh. Its inventory leaves out what systemd itself starts and ends."""

import os
import re
import subprocess

from tests.support import inventory
from tests.support import lab as L

CGROUPS = "/sys/fs/cgroup"
# Kernel threads come and go, and so do systemd's own helpers.
_SYSTEMD = re.compile(r"^(\(|/usr/lib/systemd/|/lib/systemd/|/sbin/init|/usr/bin/dbus-daemon|\(sd-|/usr/sbin/agetty)")
_IGNORED = (r"^/(run/(lab|systemd|credentials|dbus|user|log|udev|cryptsetup|lock|mount|netns|cli-[a-z0-9-]+|amphora|runc|sdns\.ready|"
            r"initctl|utmp|tmpfiles\.d|initramfs)|tmp/systemd-private-[^/]*)(/.*)?$")
# systemd's own; and the hierarchy itself, whose options runc before 1.3 changes (tests/v2/t_life.py looks at ours).
_MOUNTS = ("/run/credentials", "/run/user", "/proc/sys/fs", "/sys/fs/cgroup ")


class Bare(L.Lab):
    """The command, bundles and an inventory."""

    def start(self):
        os.makedirs(L.STATE, exist_ok=True)
        return self

    def load_images(self):
        pass

    def stop(self):
        for path in sorted(inventory.cgroups([self.namespace]), key=len, reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass

    def units(self):
        """Transient units of ours, alive or failed."""
        if not os.path.isdir("/run/systemd/system"):
            return set()
        out = subprocess.run(["systemctl", "list-units", "--all", "--no-legend", "--plain", "amph*.scope", "amph*.slice"],
                             capture_output=True, text=True, check=False).stdout
        return {line.strip() for line in out.splitlines() if line.strip()}

    def _count(self):
        return {
            "processes": {f"{pid} {line}" for pid, line in inventory.processes().items()
                          if "[zombie]" not in line and pid != os.getpid() and not _SYSTEMD.match(line)},
            "mounts": {m for m in inventory.mounts() if not m.startswith(_MOUNTS)},
            "cgroups": {p for p in inventory.cgroups([self.namespace]) if not p.endswith("/" + self.namespace)},
            "run entries": inventory.run_entries(["/run", "/tmp"], _IGNORED),
            "states": {f"/run/{d}/{id}" for d in os.listdir("/run") if d.startswith("cli-") for id in os.listdir("/run/" + d)},
            "units": self.units(),
        }

    def _purge(self, left):
        for path in left["states"]:
            _, _, root, id = path.split("/")
            L.command([root.split("-")[1], "--root", f"/run/{root}", "delete", "--force", id], env=self.env)
        super()._purge(dict(left, **{"run entries": set()}))
        for line in left["units"]:
            subprocess.run(["systemctl", "stop", line.split()[0]], check=False, capture_output=True)
            subprocess.run(["systemctl", "reset-failed", line.split()[0]], check=False, capture_output=True)

    def ctr(self, *args, stdin="", timeout=60):
        """No containerd here: nothing to ask."""
        return L.Result(0, "", "", 0)
