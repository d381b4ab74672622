#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU for start.sh, in a mount and pid namespace that start.sh made. There is no KVM on the
machines that test us, so this is emulation (TCG), and everything is about not emulating more than
needed: mode save boots the guest and saves it, RAM and all, where it waits for a job; mode resume
goes on from there and plugs in a virtiofs device with the job and the shared directories; mode boot
does without the saved state."""

import json
import os
import socket
import subprocess
import sys
import time

ENV = os.environ
ROOT, WORK, MODE, GUEST = ENV["VM_GUEST"] + "/root", ENV["VM_WORK"], ENV["VM_MODE"], ENV["VM_GUEST"]
WORDS = ("rw console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 selinux=0 no_timer_check "
         "rcupdate.rcu_expedited=1 random.trust_cpu=on systemd.show_status=0 systemd.log_level=warning ")
DIED = 125


def sh(*argv):
    subprocess.run(argv, check=True)


def show(name, path, *options):
    """`path` of the host at /vm/`name` in the chroot."""
    at = f"{ROOT}/vm/{name}"
    os.makedirs(at)
    sh("mount", "--rbind", path, at)
    if options:
        sh("mount", "-o", ",".join(("remount", "bind") + options), at)


def prepare_chroot():
    sh("mount", "--bind", ROOT, ROOT)
    sh("mount", "-t", "tmpfs", "vm", ROOT + "/vm")
    sh("mount", "-t", "proc", "proc", ROOT + "/proc")
    sh("mount", "--rbind", "/dev", ROOT + "/dev")
    sh("mount", "-t", "tmpfs", "tmp", ROOT + "/tmp")
    show("home", GUEST)
    show("work", WORK)
    show("x/job", WORK + "/job")
    if ENV["VM_SHARE"]:
        show("x/share", ENV["VM_SHARE"])
    if ENV["VM_SRC"]:
        show("x/src", ENV["VM_SRC"], "ro")


def drive():
    """The base image is never written; over it lies what the boot wrote, over that this run."""
    base = "/vm/home/root.img"
    if MODE == "boot":
        return f"file={base},format=raw,if=none,id=d0,snapshot=on,cache=unsafe"
    text = ("driver=qcow2,file.driver=file,file.filename=/vm/home/booted.qcow2,backing.driver=raw,"
            f"backing.file.driver=file,backing.file.filename={base},if=none,id=d0,cache=unsafe")
    return text + (",snapshot=on" if MODE == "resume" else "")


def arguments():
    words = WORDS + ("vm.save " if MODE == "save" else "") + ENV["VM_WORDS"]
    memory = ENV["VM_MEMORY"]
    return ["chroot", ROOT, "qemu-system-x86_64", "-M", "pc,memory-backend=mem",
            "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", ENV["VM_CPUS"], "-m", memory,
            "-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on", "-nodefaults",
            "-no-user-config", "-no-reboot", "-display", "none", "-qmp", "unix:/vm/qmp,server=on,wait=off",
            "-serial", "file:/vm/work/console", "-kernel", "/vm/home/vmlinux", "-initrd",
            "/vm/home/initrd", "-append", words, "-drive", drive(),
            "-device", "virtio-blk-pci,drive=d0,addr=4"]


def start_virtiofsd():
    """One device for the job's directory and the shares; returns QEMU's arguments for it."""
    log = open(WORK + "/virtiofsd.log", "w", encoding="utf-8")
    daemon = subprocess.Popen(["chroot", ROOT, "/usr/libexec/virtiofsd", "--socket-path=/vm/fs",
                               "--shared-dir=/vm/x", "--sandbox=none", "--announce-submounts", "--xattr",
                               "--log-level=error", "--cache=auto"], stdin=subprocess.DEVNULL, stdout=log,
                              stderr=subprocess.STDOUT)
    while not os.path.exists(ROOT + "/vm/fs"):
        if daemon.poll() is not None:
            sys.exit(DIED)
        time.sleep(0.01)
    return ["-chardev", "socket,id=fs,path=/vm/fs"]


class Qmp:
    """QEMU's monitor."""

    def __init__(self, qemu):
        while True:
            if qemu.poll() is not None:
                sys.exit(DIED)
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(ROOT + "/vm/qmp")
                break
            except OSError:
                time.sleep(0.01)
        self.file = s.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")
        # RAM pages at fixed places in the state's file: quick to read back.
        self("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])

    def __call__(self, command, **arguments_):
        self.file.write(json.dumps({"execute": command, "arguments": arguments_}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                sys.exit(f"vm: {command}: {reply['error']['desc']}")


def save(qemu):
    while True:
        with open(WORK + "/console", "rb") as f:
            if b"vm: ready" in f.read():
                break
        if qemu.poll() is not None:
            sys.exit(DIED)
        time.sleep(0.1)
    time.sleep(5)  # until what boots beside the job is done
    q = Qmp(qemu)
    q("stop")
    q("migrate", uri="file:/vm/home/booted.state")
    while (status := q("query-migrate").get("status")) != "completed":
        if status == "failed":
            sys.exit("vm: the state could not be saved")
        time.sleep(0.1)
    q("quit")


def resume(qemu):
    q = Qmp(qemu)
    q("migrate-incoming", uri="file:/vm/home/booted.state")
    while q("query-status")["status"] != "paused":
        time.sleep(0.02)
    q("device_add", driver="vhost-user-fs-pci", id="fs0", chardev="fs", tag="vm", addr="5")
    q("cont")


def main():
    prepare_chroot()
    argv = arguments()
    if MODE != "save":
        argv += start_virtiofsd()
    if MODE == "boot":
        argv += ["-device", "vhost-user-fs-pci,chardev=fs,tag=vm,addr=5"]
    if MODE == "resume":
        argv += ["-incoming", "defer"]
    with open(WORK + "/qemu.log", "w", encoding="utf-8") as log:
        qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    tail = None
    if MODE != "save":
        tail = subprocess.Popen(["tail", "-n", "+1", "-s", "0.05", "-f", f"--pid={qemu.pid}",
                                 WORK + "/job/out"], stderr=subprocess.DEVNULL)
    if MODE == "save":
        save(qemu)
    if MODE == "resume":
        resume(qemu)
    qemu.wait()
    if tail:
        tail.wait()


if __name__ == "__main__":
    main()
