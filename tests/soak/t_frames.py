# SPDX-License-Identifier: Apache-2.0
"""Clients that are wrong, and too many: the shim lives, answers others, and does not grow. The codes for each kind of
wrong frame are in tests/shim/t_contract.py."""

import contextlib
import random
import resource
import socket
import struct
import time

from tests.support import load, ttrpc
from tests.support.runner import check, equal


def connect(pod):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    s.connect(pod.socket)
    return s


def answers(pod, what):
    """A new client is served."""
    begun = time.monotonic()
    client = ttrpc.Client(pod.socket)
    equal(client.call("Connect", (1, pod.id))[1], [pod.shim], what)
    client.close()
    check(time.monotonic() - begun < 2, f"{what}: a new client was answered after {time.monotonic() - begun:.1f} s")


def header(size, stream, kind=1, flags=0):
    return struct.pack(">IIBB", size, stream, kind, flags)


def mutated(rng, good):
    """A frame that may be anything: cut, longer, with other lengths, kinds, streams, bytes."""
    frame = bytearray(header(len(good), rng.choice((1, 3, 2, 0, 0xFFFFFFFF)), rng.choice((0, 1, 1, 1, 2, 3, 77)), rng.randrange(8)) + good)
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(frame))
        match rng.randrange(4):
            case 0:
                frame[at] = rng.randrange(256)
            case 1:
                del frame[at:at + rng.randrange(1, 9)]
            case 2:
                frame[at:at] = rng.randbytes(rng.randrange(1, 17))
            case _:
                struct.pack_into(">I", frame, 0, rng.choice((0, 1, len(good) * 2, 4 << 20, (4 << 20) + 1, 0xFFFFFFFF)))
        if not frame:
            break
    return bytes(frame)


def wrong_frames(lab, count):
    """Whole conversations of them; each connection is then cut, or left for the shim to cut."""
    rng = random.Random(5)
    pod = load.Pod(lab)
    methods = ("State", "Create", "Start", "Delete", "Pids", "Pause", "Checkpoint", "Kill", "Exec", "ResizePty", "CloseIO", "Update", "Wait",
               "Stats", "Connect", "NoSuchMethod")
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])

        def some(number):
            for _ in range(number):
                s = connect(pod)
                with contextlib.suppress(OSError):
                    for _ in range(rng.randrange(1, 8)):
                        fields = [(1, "nobody"), (2, rng.randbytes(rng.randrange(64))), (3, rng.randrange(1 << 32))]
                        good = ttrpc.encode([(1, rng.choice((ttrpc.TASK, ttrpc.SANDBOX, "x"))), (2, rng.choice(methods)), (3, fields)])
                        s.sendall(mutated(rng, good))
                s.close()
        some(count // 5)
        answers(pod, "after wrong frames")
        before = load.settled(pod.shim)
        some(count)
        answers(pod, f"after {count} conversations of wrong frames")
        after = load.settled(pod.shim)
        check(after["fds"] <= before["fds"] and after["kB"] - before["kB"] < 512, f"the shim has grown: {before} -> {after}")
        equal(pod.client.call("State", (1, pod.id))[4], [2], "the container runs")
    finally:
        pod.close()


def clients_that_hang_in_a_frame(lab, count):
    """Each has promised 4 MiB and sends a part, or the half of a header."""
    pod = load.Pod(lab)
    hanging = []
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])
        before = load.sizes(pod.shim)
        for i in range(count):
            s = connect(pod)
            s.sendall(header(4 << 20, 1) + bytes(1000) if i % 2 else header(4 << 20, 1)[:5])
            hanging.append(s)
        answers(pod, f"beside {count} clients that hang")
        grown = load.sizes(pod.shim)["kB"] - before["kB"]
        check(grown < 16 * count + 1024, f"{count} promises of 4 MiB took {grown} kB")
        equal(pod.client.call("State", (1, pod.id))[4], [2], "the container runs")
    finally:
        for s in hanging:
            s.close()
        pod.close()


def a_client_that_reads_nothing(lab):
    """Its answers may not fill the shim's memory: it is cut off."""
    pod = load.Pod(lab)
    s = connect(pod)
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])
        before = load.sizes(pod.shim)["kB"]
        body = ttrpc.encode([(1, ttrpc.TASK), (2, "State"), (3, [(1, pod.id)])])
        s.settimeout(10)
        stream, cut = 1, False
        try:
            while stream < 4000000:
                s.sendall(b"".join(header(len(body), stream + 2 * i) + body for i in range(500)))
                stream += 1000
        except ConnectionError:
            cut = True
        check(cut, f"{stream // 2} answers wait for a client that reads nothing")
        answers(pod, "beside a client that reads nothing")
        grown = load.sizes(pod.shim)["kB"] - before
        check(grown < 40 << 10, f"a client that reads nothing took {grown} kB")
    finally:
        s.close()
        pod.close()


def idle_connections(lab, count, files=None):
    """`files`: as many descriptors may the shim have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(hard, max(soft, count + 500))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files or many, hard))
        pod = load.Pod(lab)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (many, hard))
    idle = []
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])
        before = load.sizes(pod.shim)
        for _ in range(count):
            with contextlib.suppress(OSError):
                idle.append(connect(pod))
        answers(pod, f"beside {count} idle connections")
        equal(pod.client.call("State", (1, pod.id))[4], [2], "an older client is still served")
        # There is room for work, too.
        pod.run(pod.id + "-c", ["/bin/demo", "exit", "3"])
        equal(pod.client.call("Wait", (1, pod.id + "-c"))[1][0], 3, "a container that is made meanwhile")
        pod.end(pod.id + "-c")
        now = load.sizes(pod.shim)
        print(f"     {len(idle)} idle connections: {now}, before {before}")
        check(now["kB"] - before["kB"] < 16 << 10, f"{count} idle connections took {now['kB'] - before['kB']} kB")
        for s in idle:
            s.close()
        idle.clear()
        after = load.settled(pod.shim)
        check(after["fds"] <= before["fds"] + 2, f"descriptors {before['fds']} -> {after['fds']}")
    finally:
        for s in idle:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pod.close()


def test_100000_wrong_frames(lab):
    wrong_frames(lab, 25000)


def test_clients_that_hang_in_a_frame(lab):
    clients_that_hang_in_a_frame(lab, 200)


def test_a_client_that_reads_nothing(lab):
    a_client_that_reads_nothing(lab)


def test_10000_idle_connections(lab):
    idle_connections(lab, 10000)


def test_10000_idle_connections_and_few_descriptors(lab):
    """The same where a shim has as few as distributions give their services."""
    idle_connections(lab, 10000, files=1024)
