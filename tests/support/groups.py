# SPDX-License-Identifier: Apache-2.0
"""Looking at a container's cgroup in the unified hierarchy from outside: its files, the processes in it,
and the eBPF programs attached to it, asked of bpf(2) itself."""

import ctypes
import os
import struct

from tests.support.bare import CGROUPS

_BPF, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO, _PROG_QUERY, _DEVICE = 321, 13, 15, 16, 6
_libc = ctypes.CDLL(None, use_errno=True)


class Group:
    """One cgroup by its path below the hierarchy."""

    def __init__(self, path):
        self.path = path
        self.directory = CGROUPS + path

    def read(self, name):
        with open(f"{self.directory}/{name}", encoding="utf-8") as f:
            return f.read().strip()

    def has(self, name):
        return os.path.exists(f"{self.directory}/{name}")

    def keyed(self, name):
        return {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in self.read(name).splitlines()}

    def snapshot(self, names):
        return {name: self.read(name) for name in names if self.has(name)}

    def pids(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def owners(self):
        """File name -> uid, of the directory (as ".") and of every file in it."""
        return {name: os.stat(f"{self.directory}/{name}").st_uid for name in [".", *os.listdir(self.directory)]}

    def device_programs(self):
        """Ids of the device programs attached to this cgroup itself."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ids = (ctypes.c_uint32 * 64)()
            # A whole, zeroed union: some kernels write beyond a shorter one.
            attr = ctypes.create_string_buffer(struct.pack("=IIIIQI", fd, _DEVICE, 0, 0, ctypes.addressof(ids), 64), 256)
            if _libc.syscall(_BPF, _PROG_QUERY, attr, 256) != 0:
                raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
            return list(ids)[:struct.unpack_from("=I", attr, 24)[0]]
        finally:
            os.close(fd)


def of(lab, id):
    """The cgroup of a container of the cgroupfs driver."""
    return Group(f"/{lab.namespace}/{id}")


def of_process(pid):
    """The cgroup a process is in."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        return Group(next(line[3:].strip() for line in f if line.startswith("0::")))
