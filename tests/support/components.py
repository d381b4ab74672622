# SPDX-License-Identifier: Apache-2.0
"""Components for the tests: which there are, a spec that has them, and an HTTP client for those that
serve. Not here: what is tested."""

import http.client
import os
import socket
import time

from tests.support import lab as L
from tests.support.runner import Failed, Skip

NAMES = ("command.wasm", "command3.wasm", "http.wasm", "calls.wat")


def need(*names):
    for name in names:
        if not os.path.exists(f"{L.GUESTS}/{name}"):
            raise Skip(f"no {name}: this machine's Rust has no wasm32-wasip2")


def spec_with(annotations=None, env=(), host_network=False, memory=None, mounts=()):
    """A change of a spec: the components in the root, engine options by their short names."""
    def change(spec):
        for name in NAMES:
            if os.path.exists(f"{L.GUESTS}/{name}"):
                spec["mounts"].append({"destination": "/" + name, "type": "bind", "source": f"{L.GUESTS}/{name}",
                                       "options": ["bind", "ro"]})
        spec["mounts"].extend(mounts)
        spec["process"]["env"] += list(env)
        for key, value in (annotations or {}).items():
            full = key if "/" in key else "amphora.dev/engine." + key
            spec.setdefault("annotations", {})[full] = value
        if memory:
            spec["linux"]["resources"]["memory"] = {"limit": memory, "swap": memory}
        if host_network:
            spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    return change


class Client:
    """HTTP/1.1 to 127.0.0.1:port, a connection a request unless kept."""

    def __init__(self, port, seconds=10):
        self.port, self.seconds = port, seconds

    def until_up(self):
        end = time.monotonic() + self.seconds
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError as error:
                if time.monotonic() > end:
                    raise Failed(f"nothing listens on port {self.port}: {error}") from None
                time.sleep(0.02)

    def __call__(self, path, body=None, method=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        try:
            connection.request(method or ("POST" if body is not None else "GET"), path, body)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()
