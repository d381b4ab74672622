# SPDX-License-Identifier: Apache-2.0
"""The runtime as a command: a Cli is one binary (runc or amphora) with a state root of its own, and a
bundle it makes containers of."""

import json
import os
import subprocess
import tempfile
import time

from tests.support import bundle
from tests.support import lab as L
from tests.support.runner import Failed, Skip, eventually

NATIVE, WASM = "native", "wasm"


def kind_args(kind, *words):
    """The demo program as a native or wasm entrypoint."""
    return [{"native": "/bin/demo", "wasm": "/app.wasm"}[kind], *words]


class Cli:
    def __init__(self, lab, name="amphora", options=()):
        self.lab, self.name, self.options = lab, name, options
        self.root = f"/run/cli-{name}"
        self.ids = []

    def __call__(self, *args, stdin="", timeout=30, cwd=None):
        return L.command([self.name, "--root", self.root, *self.options, *args], stdin, timeout, self.lab.env, cwd)

    def needs_controller(self, name):
        """Skips the case where this machine's cgroups have no such controller for us: a limit is refused by name then."""
        limit = {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}, "cpu": {"shares": 512}}[name]
        r = self.run("true", change=lambda spec: spec["linux"].setdefault("resources", {}).update({name: limit}))
        if r.code != 0 and f"controller {name} is not available" in r.err:
            raise Skip(f"the controller {name} is not available in this view")

    def cgroups_path(self, id):
        return f"/{self.lab.namespace}/{id}"

    def bundle(self, *args, change=None, terminal=False, id=None):
        """A bundle for args; its id is its name. The root is shared between all bundles."""
        id = id or self.lab.new_id("b")
        self.ids.append(id)
        path = bundle.make_bundle(f"{L.LAB}/bundles/shared", L.GUESTS, args)
        own = f"{L.LAB}/bundles/{id}"
        os.makedirs(own, exist_ok=True)

        def edit(spec):
            spec["root"]["path"] = path + "/rootfs"
            spec["linux"]["cgroupsPath"] = self.cgroups_path(id)
            if change:
                change(spec)
        spec = bundle.default_spec(args, terminal)
        edit(spec)
        bundle.write_config(own, spec)
        return id, own

    def run(self, *args, stdin="", change=None, options=()):
        id, path = self.bundle(*args, change=change)
        return self("run", *options, "-b", path, id, stdin=stdin)

    def create(self, *args, change=None):
        id, path = self.bundle(*args, change=change)
        r = self.detached("create", "-b", path, id)
        if r.code != 0:
            raise Failed(f"{self.name} create: {r!r}")
        return id

    def running(self, *args, change=None):
        id = self.create(*args, change=change)
        self("start", id).ok()
        return id

    def detached(self, *args, front=()):
        """For verbs that leave a process behind: its stdio must not be our pipes."""
        with tempfile.TemporaryFile(dir=L.LAB) as out, tempfile.TemporaryFile(dir=L.LAB) as err:
            begun = time.monotonic()
            code = subprocess.run([*front, self.name, "--root", self.root, *self.options, *args], env=self.lab.env, stdout=out,
                                  stderr=err, stdin=subprocess.DEVNULL, timeout=30, check=False).returncode
            texts = []
            for f in (out, err):
                f.seek(0)
                texts.append(f.read().decode(errors="replace"))
            return L.Result(code, *texts, time.monotonic() - begun)

    def state(self, id):
        return json.loads(self("state", id).ok().out)

    def status(self, id):
        return self.state(id)["status"]

    def end(self, *ids):
        for id in ids:
            self("delete", "--force", id).ok()

    def until(self, id, status, seconds=5):
        eventually(lambda: self.status(id) == status, seconds, f"{id} is {status}")
