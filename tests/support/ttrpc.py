# SPDX-License-Identifier: Apache-2.0
"""A ttrpc client of a page, for asking a shim directly: frames, and just enough protobuf (messages as
lists of (number, value); answers as {number: [values]}). Used by the tests of codes and by the
benchmarks of RPC times."""

import os
import socket
import struct
import subprocess

TASK = "containerd.task.v2.Task"
SANDBOX = "containerd.runtime.sandbox.v1.Sandbox"
OK, INVALID, NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED = 0, 3, 5, 6, 9, 12


def varint(n):
    out = bytearray()
    while True:
        out.append((n & 0x7F) | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def encode(fields):
    out = b""
    for number, value in fields:
        if isinstance(value, (bool, int)):
            out += varint(number << 3) + varint(int(value))
            continue
        if isinstance(value, list):
            value = encode(value)
        if isinstance(value, str):
            value = value.encode()
        out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(data):
    """{field number: [ints or bytes]}"""
    found, at = {}, 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return n
    while at < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            value = number()
        elif kind == 2:
            size = number()
            value = data[at:at + size]
            at += size
        else:
            size = {1: 8, 5: 4}[kind]
            value = data[at:at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__(f"code {code}: {text}")
        self.code, self.text = code, text


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.stream = -1

    def close(self):
        self.socket.close()

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the shim closed the connection")
            data += part
        return data

    def send(self, method, fields, service=TASK):
        self.stream += 2
        body = encode([(1, service), (2, method), (3, encode(fields))])
        self.socket.sendall(struct.pack(">IIBB", len(body), self.stream, 1, 0) + body)
        return self.stream

    def receive(self):
        size, stream, kind, _ = struct.unpack(">IIBB", self._read(10))
        body = decode(self._read(size))
        if kind != 2:
            raise ConnectionError(f"frame of type {kind}")
        status = decode(body[1][0]) if 1 in body else {}
        code = status.get(1, [0])[0]
        if code:
            raise RpcError(code, status.get(2, [b""])[0].decode(errors="replace"))
        return stream, decode(body.get(2, [b""])[0])

    def call(self, method, *fields, service=TASK):
        self.send(method, list(fields), service)
        return self.receive()[1]

    def call_past(self, method, others, *fields, service=TASK):
        """A call whose answer must come while those of the streams `others` stay open."""
        mine = self.send(method, list(fields), service)
        stream, body = self.receive()
        if stream != mine:
            raise RpcError(-1, f"{method} was not answered first, but stream {stream} of {len(others)}")
        return body

    def code_of(self, method, *fields, service=TASK):
        """The status code of a call, with its text."""
        try:
            self.call(method, *fields, service=service)
            return OK, ""
        except RpcError as error:
            return error.code, error.text


def start_shim(binary, bundle, id, namespace, containerd_socket, env=None):
    """What containerd does: BINARY ... start in the bundle; returns the socket's path. Events go to containerd's, unless
    `env` names another."""
    env = dict(env or os.environ)
    env.setdefault("TTRPC_ADDRESS", containerd_socket + ".ttrpc")
    r = subprocess.run([binary, "-namespace", namespace, "-address", containerd_socket,
                        "-publish-binary", "/bin/true", "-id", id, "start"], cwd=bundle,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
                       env=env)
    if r.returncode != 0:
        raise RuntimeError(f"{binary} start: {r.stdout!r} {r.stderr!r}")
    text = r.stdout.decode(errors="replace")
    at = text.index("unix://")
    end = at + 7
    while end < len(text) and (text[end].isalnum() or text[end] in "/._-@"):
        end += 1
    return text[at + 7:end]
