#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""unpack.py ROOT OUT: takes the kernel out of ROOT's vmlinuz as OUT/vmlinux (booted as an ELF file it
need not unpack itself under emulation) and writes OUT/initrd, which loads the disk's driver and goes on
to the root file system."""

import glob
import lzma
import subprocess
import sys

INIT = b"""#!/bin/busybox sh
/bin/busybox insmod /virtio_blk.ko
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""
PACKERS = ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b\x08", "gzip"))


def kernel(root):
    """The ELF file inside the compressed image: found by its packer's magic."""
    with open(glob.glob(root + "/boot/vmlinuz-*")[0], "rb") as f:
        data = f.read()
    for magic, tool in PACKERS:
        at = data.find(magic)
        while at >= 0:
            out = subprocess.run(["chroot", root, tool, "-dcq"], input=data[at:], capture_output=True,
                                 check=False).stdout
            if out[:4] == b"\x7fELF":
                return out
            at = data.find(magic, at + 1)
    sys.exit("no kernel found in the guest's tree")


class Cpio:
    """An archive in the form the kernel reads (newc)."""

    def __init__(self):
        self.parts = []

    def add(self, name, mode, body=b"", device=0):
        raw = name.encode() + b"\0"
        numbers = (len(self.parts) + 1, mode, 0, 0, 1, 0, len(body), 0, 0, device >> 8, device & 255,
                   len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        self.parts.append(head + b"\0" * (-len(head) % 4) + body + b"\0" * (-len(body) % 4))
        return self


def initrd(root):
    with open(glob.glob(root + "/lib/modules/*/kernel/drivers/block/virtio_blk.ko*")[0], "rb") as f:
        module = f.read()
    if not module.startswith(b"\x7fELF"):
        module = lzma.decompress(module)
    with open(root + "/usr/bin/busybox", "rb") as f:
        busybox = f.read()
    archive = Cpio()
    for name in ("bin", "dev", "root"):
        archive.add(name, 0o40755)
    archive.add("dev/console", 0o20600, device=5 << 8 | 1).add("bin/busybox", 0o100755, busybox)
    archive.add("virtio_blk.ko", 0o100644, module).add("init", 0o100755, INIT).add("TRAILER!!!", 0)
    return b"".join(archive.parts)


def main():
    root, out = sys.argv[1:3]
    for name, make in (("vmlinux", kernel), ("initrd", initrd)):
        body = make(root)
        with open(f"{out}/{name}", "wb") as f:
            f.write(body)


if __name__ == "__main__":
    main()
