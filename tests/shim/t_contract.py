# SPDX-License-Identifier: Apache-2.0
"""What containerd's contract with a shim asks beside plain runs: forms of the start's answer, waiters, stdio under
slow and absent readers, frames that are wrong, updates in every state. Asked of the shim directly, or
through ctr where a client's view counts. Codes and events are in t_lifecycle.py."""

import hashlib
import json
import os
import select
import struct
import subprocess
import time

from tests.shim.t_lifecycle import KINDS, Direct
from tests.support import bundle, ttrpc
from tests.support import lab as L
from tests.support.runner import Skip, check, equal


def test_shared_root(lab):
    # What CRI asks for with a volume that propagates both ways; pivot_root refuses a root that is shared.
    d = Direct(lab, KINDS["native"])
    volume = f"{L.LAB}/shared-{d.id}"
    os.makedirs(volume)
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    subprocess.run(["mount", "--make-shared", volume], check=True)

    def change(spec):
        spec["linux"].update(rootfsPropagation="rshared")
        spec["mounts"].append({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind", "rshared"]})
    d.make(d.id, KINDS["native"], change)
    try:
        code, text = d.create()
        equal(code, 0, text)
        pid = d.client.call("Start", (1, d.id))[1][0]
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            lines = {line.split()[4]: line for line in f}
        check("shared:" in lines["/"], f"the root is shared: {lines['/']}")
        check("shared:" in lines["/vol"] and "master:" not in lines["/vol"], f"the volume is its peer: {lines['/vol']}")
        equal(d.client.code_of("Kill", (1, d.id), (3, 9))[0], ttrpc.OK, "kill")
    finally:
        d.close()
        subprocess.run(["umount", volume], check=True)


def exec_fields(d, exec_id, script, out="", err=""):
    process = json.dumps({"args": ["/bin/sh", "-c", script], "cwd": "/", "user": {"uid": 0, "gid": 0}})
    return ((1, d.id), (2, exec_id), (5, out), (6, err),
            (7, [(1, "types.containerd.io/opencontainers/runtime-spec/1/Process"), (2, process)]))


def read_to_end(fd, seconds):
    """All that comes from a FIFO until its end, which closes it."""
    seen, end = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        if not ready:
            os.close(fd)
            raise AssertionError(f"no end of file within {seconds} s; {len(seen)} bytes before")
        try:
            part = os.read(fd, 1 << 20)
        except BlockingIOError:
            continue
        if not part:
            os.close(fd)
            return seen
        seen += part


def test_what_an_exec_leaves_behind_does_not_keep_its_client(lab):
    # Acceptance case 21: a descendant holds stdout; Delete gives the client its end of file all the same.
    d = Direct(lab, KINDS["native"])
    fifo = f"{d.bundle}/out"
    os.mkfifo(fifo)
    try:
        d.create()
        d.client.call("Start", (1, d.id))
        d.client.call("Exec", *exec_fields(d, "e1", "echo out; sleep 1000 &", fifo))
        d.client.call("Start", (1, d.id), (2, "e1"))
        equal(d.client.call("Wait", (1, d.id), (2, "e1")).get(1, [0])[0], 0, "exit code")
        begun = time.monotonic()
        keep = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # a client is there before the end
        d.client.call("Delete", (1, d.id), (2, "e1"))
        check(time.monotonic() - begun < 3, f"Delete took {time.monotonic() - begun:.1f} s")
        equal(read_to_end(keep, 3), b"out\n", "output, and then the end")
    finally:
        d.close()


def test_an_execs_output_is_whole_with_a_slow_reader(lab):
    # Acceptance case 16, for what is copied: 20 MB by splice, the reader comes late and is slow.
    d = Direct(lab, KINDS["native"])
    fifo = f"{d.bundle}/out"
    os.mkfifo(fifo)
    try:
        d.create()
        d.client.call("Start", (1, d.id))
        d.client.call("Exec", *exec_fields(d, "e1", "seq 1 2500000", fifo))
        d.client.call("Start", (1, d.id), (2, "e1"))
        time.sleep(0.5)
        reader = os.open(fifo, os.O_RDONLY)
        digest, size = hashlib.sha256(), 0
        while part := os.read(reader, 65536):
            digest.update(part)
            size += len(part)
            if size < 1 << 20:
                time.sleep(0.01)
        os.close(reader)
        want = "".join(f"{i}\n" for i in range(1, 2500001)).encode()
        equal((size, digest.hexdigest()), (len(want), hashlib.sha256(want).hexdigest()), "bytes")
        d.client.call("Delete", (1, d.id), (2, "e1"))
    finally:
        d.close()


def test_a_thousand_waiters(lab):
    # Acceptance case 9: they add no threads, and all hear the same.
    d = Direct(lab, KINDS["native"])
    try:
        d.create()
        shim = d.client.call("Connect", (1, d.id))[1][0]
        waiting = [d.client.send("Wait", [(1, d.id)]) for _ in range(1000)]
        d.client.call_past("Start", waiting, (1, d.id))
        threads = len(os.listdir(f"/proc/{shim}/task"))
        check(threads <= 6, f"{threads} threads with 1000 waiters")
        equal(d.client.send("Kill", [(1, d.id), (3, 9)]) > 0, True)
        answers = [d.client.receive() for _ in range(1001)]
        equal(sorted(stream for stream, _ in answers if stream in set(waiting)), waiting, "every waiter is answered")
        waits = [body for stream, body in answers if stream in set(waiting)]
        equal({body[1][0] for body in waits}, {137}, "status")
        equal(len({bytes(body[2][0]) for body in waits}), 1, "one time for all")
        late = d.client.call("Wait", (1, d.id))
        equal(late, waits[0], "a Wait after the end")
    finally:
        d.close()


def test_stdout_that_nobody_opens(lab):
    # Acceptance case 17, for both ways of output.
    for how in ("pass", "copy"):
        lab.env["AMPHORA_STDIO"] = how
        try:
            d = Direct(lab, ["/bin/demo", "daemon"])
        finally:
            del lab.env["AMPHORA_STDIO"]
        os.mkfifo(f"{d.bundle}/out")
        try:
            equal(d.client.code_of("Create", (1, d.id), (2, d.bundle), (6, f"{d.bundle}/out"))[0], 0, f"{how}: create")
            equal(d.client.code_of("Start", (1, d.id))[0], 0, f"{how}: start")
            equal(d.client.code_of("Kill", (1, d.id), (3, 9))[0], 0, f"{how}: kill")
            equal(d.client.call("Wait", (1, d.id))[1][0], 137, f"{how}: wait")
            equal(d.client.code_of("Delete", (1, d.id))[0], 0, f"{how}: delete")
        finally:
            d.close()


def test_copied_output_reaches_a_reader_that_comes_late(lab):
    for how in ("pass", "copy"):
        lab.env["AMPHORA_STDIO"] = how
        try:
            d = Direct(lab, ["/bin/demo", "echo", "first", "bytes"])
        finally:
            del lab.env["AMPHORA_STDIO"]
        fifo = f"{d.bundle}/out"
        os.mkfifo(fifo)
        try:
            equal(d.client.code_of("Create", (1, d.id), (2, d.bundle), (6, fifo))[0], 0, f"{how}: create")
            keep = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            d.client.call("Start", (1, d.id))
            d.client.call("Wait", (1, d.id))
            equal(read_to_end(keep, 2), b"first bytes\n", f"{how}: output")
        finally:
            d.close()


def test_frames_that_are_wrong(lab):
    # Acceptance case 15: each has its code, and the connection lives on.
    d = Direct(lab, KINDS["native"])
    raw = d.client.socket

    def answer_to(frame):
        raw.sendall(frame)
        size, stream, kind, _ = struct.unpack(">IIBB", d.client._read(10))
        body = ttrpc.decode(d.client._read(size))
        return kind, ttrpc.decode(body[1][0]).get(1, [0])[0] if 1 in body else 0
    try:
        d.client.stream = 99
        good = ttrpc.encode([(1, ttrpc.TASK), (2, "Connect"), (3, [(1, d.id)])])
        for what, frame, code in (
                ("an even stream", struct.pack(">IIBB", len(good), 100, 1, 0) + good, 3),
                ("5 MiB", struct.pack(">IIBB", 5 << 20, 101, 1, 0) + bytes(5 << 20), 8),
                ("no protobuf", struct.pack(">IIBB", 4, 103, 1, 0) + b"\xff\xff\xff\xff", 3),
                ("a request that lacks its end", struct.pack(">IIBB", len(good) - 3, 105, 1, 0) + good[:-3], 3),
                ("data for no stream", struct.pack(">IIBB", 1, 107, 3, 0) + b"x", 3)):
            equal(answer_to(frame)[1], code, what)
        d.client.stream = 109
        d.client.call("Connect", (1, d.id))
        d.client.stream = 107
        equal(d.client.code_of("Connect", (1, d.id))[0], 3, "a stream id that was used")
        raw.sendall(struct.pack(">IIBB", 3, 301, 77, 0) + b"abc")  # an unknown type is ignored
        d.client.stream = 401
        d.client.call("Connect", (1, d.id))
    finally:
        d.client.stream = 1001
        d.create()
        d.close()


def start_with(lab, name, stdin, env):
    """One run of `start`: stdout, stderr and what the bundle says; the shim is ended by Shutdown."""
    path = bundle.make_bundle(f"{L.LAB}/bundles/{name}", L.GUESTS, KINDS["native"], cgroup=f"/{lab.namespace}/{name}")
    r = subprocess.run(["containerd-shim-amphora-v1", "-namespace", lab.namespace, "-address", L.SOCKET, "-publish-binary",
                        "/bin/true", "-id", name, "start"], cwd=path, input=stdin, capture_output=True, timeout=20,
                       check=False, env=dict(lab.env, TTRPC_ADDRESS=L.SOCKET + ".ttrpc", **env))
    with open(path + "/address", encoding="utf-8") as f:
        address = f.read()
    client = ttrpc.Client(address.removeprefix("unix://"))
    client.call("Shutdown", (1, name))
    client.close()
    return r, address


def test_forms_of_the_answer_to_start(lab):
    # Acceptance case 2: in the form that was asked for, and nothing on stderr.
    options = ttrpc.encode([(1, "runtimeoptions.v1.Options"), (2, ttrpc.encode([(1, "x"), (2, "/etc/x.toml")]))])
    # What CRI sends for a container of a pod with a user namespace: no UTF-8, where the newer form has a string.
    owners = ttrpc.encode([(1, "containerd.runc.v1.Options"), (2, ttrpc.encode([(4, 200000), (5, 200000)]))])
    newer = {"MAX_SHIM_VERSION": "2", "GRPC_ADDRESS": L.SOCKET, "NAMESPACE": lab.namespace}
    for name, stdin, env in (("form-none", b"", {}), ("form-any", options, newer), ("form-owners", owners, newer),
                             ("form-garbage", b"\xff\x00garbage", newer)):
        r, address = start_with(lab, name, stdin, env)
        equal((r.returncode, r.stdout.decode(), r.stderr), (0, address, b""), name)
    params = ttrpc.encode([(1, "form-new"), (2, lab.namespace), (4, "2.3.4"), (5, L.SOCKET + ".ttrpc"), (6, L.SOCKET)])
    r, address = start_with(lab, "form-new", params, newer)
    reply = ttrpc.decode(r.stdout)
    equal((r.returncode, reply[1], reply[2], reply[3], r.stderr), (0, [3], [address.encode()], [b"ttrpc"], b""), "BootstrapResult")


def test_updates_in_every_state(lab):
    # Acceptance case 25, on v1 as this machine has it.
    d = Direct(lab, KINDS["native"])
    path = f"/sys/fs/cgroup/memory/{lab.namespace}/{d.id}/memory.limit_in_bytes"

    def update(size):
        body = json.dumps({"memory": {"limit": size}})
        code, text = d.client.code_of("Update", (1, d.id), (2, [
            (1, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"), (2, body)]))
        equal(code, 0, text)
        with open(path, encoding="utf-8") as f:
            equal(int(f.read()), size, "limit")
    try:
        d.create()
        if not os.path.exists(path):
            raise Skip("the memory controller is not in a v1 hierarchy here")
        update(100 << 20)
        d.client.call("Start", (1, d.id))
        update(90 << 20)
        d.client.call("Pause", (1, d.id))
        update(80 << 20)
        equal(d.client.code_of("Exec", *exec_fields(d, "e1", "true"))[0], ttrpc.PRECONDITION, "Exec while paused")
        equal(d.client.code_of("Kill", (1, d.id), (3, 9))[0], 0, "SIGKILL of a paused task")
        equal(d.client.call("Wait", (1, d.id))[1][0], 137, "it ends")
        body = [(1, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"), (2, "{}")]
        equal(d.client.code_of("Update", (1, d.id), (2, body))[0], ttrpc.PRECONDITION, "Update of a stopped task")
    finally:
        d.close()


def test_unknown_options_are_no_error(lab):
    d = Direct(lab, KINDS["native"])
    try:
        for kind, value in (("some.other.Options", b"\x0a\x01x"), ("containerd.runc.v1.Options", b"\xff\xff"),
                            ("runtimeoptions.v1.Options", ttrpc.encode([(1, "x"), (3, b"[table]\nkey = 1\n")]))):
            code, text = d.client.code_of("Create", (1, d.id), (2, d.bundle), (10, [(1, kind), (2, value)]))
            equal(code, 0, f"{kind}: {text}")
            equal(d.client.code_of("Delete", (1, d.id))[0], 0, f"{kind}: delete")
    finally:
        d.close()


def test_a_state_root_of_the_options(lab):
    d = Direct(lab, KINDS["native"])
    root = f"{L.STATE}/other-root"
    try:
        code, text = d.client.code_of("Create", (1, d.id), (2, d.bundle), (10, [(1, "containerd.runc.v1.Options"), (2, [(7, root)])]))
        equal(code, 0, text)
        check(os.path.exists(f"{root}/{lab.namespace}/{d.id}"), "the state is where the options say")
        with open(f"{d.bundle}/state-root", encoding="utf-8") as f:
            equal(f.read(), root, "what `delete` reads, which gets no options")
    finally:
        d.close()
        subprocess.run(["rm", "-r", root], check=True)
