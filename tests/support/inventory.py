# SPDX-License-Identifier: Apache-2.0
"""What exists: processes, mounts, cgroups, run-time files and network namespaces, as sets of lines.
Two inventories subtracted say what a test left behind."""

import contextlib
import os
import re


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def processes():
    """pid -> command line of every process of this pid namespace but kernel threads."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            line = _read(f"/proc/{entry}/cmdline").replace(b"\0", b" ").decode(errors="replace")
            stat = _read(f"/proc/{entry}/stat").decode(errors="replace")
            if not stat:
                continue
            state = stat.rsplit(")", 1)[1].split()[0]
            found[int(entry)] = (line.strip() or stat.split(" ", 1)[1].rsplit(")", 1)[0] + ")") + (
                " [zombie]" if state == "Z" else "")
    return found


def mounts():
    return {line.split(" - ")[0].split()[4] + " " + line.split(" - ")[1]
            for line in _read("/proc/self/mountinfo").decode().splitlines()}


def cgroups(parts):
    """Every cgroup directory below a hierarchy that one of `parts` names (a path component)."""
    found = set()
    for root, directories, _ in os.walk("/sys/fs/cgroup"):
        for name in directories:
            path = os.path.join(root, name)
            if any(re.search(rf"/{re.escape(part)}(/|$)", path) for part in parts):
                found.add(path)
    return found


def run_entries(roots, ignore):
    """Files below `roots` (for example /run), except those whose path matches `ignore`."""
    found = set()
    for top in roots:
        for root, directories, files in os.walk(top):
            for name in directories + files:
                path = os.path.join(root, name)
                if not re.search(ignore, path):
                    found.add(path)
    return found


def network_namespaces():
    """Inodes of the network namespaces that processes or mounts keep alive."""
    found = set()
    for pid in processes():
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            pass
    found |= {m for m in mounts() if " nsfs " in m}
    return found


def descriptors(pid):
    """Number -> what it names, of the descriptors of a process that may close some meanwhile."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found
