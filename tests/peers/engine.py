# SPDX-License-Identifier: Apache-2.0
"""An engine (podman, docker) as the gates see it: its command line with one runtime chosen, containers by
name, and the comparison of one case under runc and under ours. Not here: the cases (engine_cases.py)."""

import json
import os
import re
import traceback

from tests.support import fixtures
from tests.support import lab as L
from tests.support.runner import Failed, Skip, eventually

NATIVE, WASM = "localhost/amphora-native:1", "localhost/amphora-wasm:1"


class Engine:
    """One command (podman or docker, with its global options), and a runtime."""

    def __init__(self, name, command, runtime, run_options, work):
        self.name, self.command, self.runtime = name, list(command), runtime
        self.run_options, self.work = list(run_options), work
        self.made = []
        self.number = 0
        self.env = dict(os.environ, HOME="/root", TMPDIR="/tmp")

    def __call__(self, *args, stdin="", timeout=60):
        return L.command([*self.command, *args], stdin, timeout, self.env)

    def new_name(self):
        self.number += 1
        name = f"{self.runtime['label']}-{self.number}"
        self.made.append(name)
        return name

    def run(self, *words, options=(), image=NATIVE, stdin="", timeout=60, name=None):
        """run --rm to its end."""
        return self("run", "--rm", *self.runtime["options"], *self.run_options, "--name", name or self.new_name(),
                    *options, image, *words, stdin=stdin, timeout=timeout)

    def started(self, *words, options=(), image=NATIVE):
        """run -d; the container's name."""
        name = self.new_name()
        self("run", "-d", *self.runtime["options"], *self.run_options, "--name", name, *options, image,
             *words).ok()
        return name

    def inspect(self, name, template):
        return self("inspect", "--format", template, name).ok().out.strip()

    def until(self, name, status, seconds=15):
        eventually(lambda: self.inspect(name, "{{.State.Status}}") == status, seconds, f"{name} is {status}", 0.1)

    def load_images(self):
        for kind, name in (("native", NATIVE), ("wasm", WASM)):
            path = f"{self.work}/{kind}.tar"
            fixtures.write(path, name, kind, L.GUESTS)
            add_docker_manifest(path, name)
            self("load", "-i", path).ok()

    def clear(self):
        for name in self.made:
            self("rm", "-f", name, timeout=60)
        self.made = []


def add_docker_manifest(path, name):
    """The older index beside the OCI one: what every engine's `load` reads."""
    import io
    import tarfile
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    index = json.loads(members["index.json"])
    blob = lambda digest: "blobs/" + digest.replace(":", "/")  # noqa: E731
    manifest = json.loads(members[blob(index["manifests"][0]["digest"])])
    text = json.dumps([{"Config": blob(manifest["config"]["digest"]), "RepoTags": [name],
                        "Layers": [blob(d["digest"]) for d in manifest["layers"]]}]).encode()
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))


def outcome(engine, case):
    """(kind, value): what a user sees of a case; an exception is an outcome too."""
    try:
        return "value", case(engine)
    except Skip as skip:
        return "skip", str(skip)
    except Failed as failed:
        return "error", re.sub(r"\s+", " ", str(failed))[:400]
    except Exception:  # a case's own mistake is shown, not hidden
        return "error", traceback.format_exc()[-400:]
    finally:
        engine.clear()


def difference(theirs, ours):
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k)]
        return "; ".join(f"{k}: runc {theirs.get(k)!r}, ours {ours.get(k)!r}" for k in sorted(keys))[:700]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) > 8:
        return (f"only runc {[v for v in theirs if v not in ours]!r}, "
                f"only ours {[v for v in ours if v not in theirs]!r}")[:900]
    return f"runc {theirs!r}, ours {ours!r}"[:700]


def compare(rows, cases, reference, others, words):
    """Every case under runc, then under each of ours; a row each. others: suffix -> Engine."""
    for name, case in cases:
        if words and not any(w in name for w in words):
            continue
        kind, theirs = outcome(reference, case)
        if kind != "value":
            why = theirs if kind == "skip" else f"runc fails it here: {theirs}"
            for suffix in others:
                rows.add(name + suffix, "skipped", why[:300])
            continue
        for suffix, engine in others.items():
            kind, ours = outcome(engine, case)
            if kind == "skip":
                rows.add(name + suffix, "skipped", ours)
            elif kind == "value" and ours == theirs:
                rows.add(name + suffix, "passed")
            else:
                rows.add(name + suffix, "failed", difference(theirs, ours))


def check_wasm(rows, cases, engines, words):
    """Cases whose value must be the same for the native and the wasm program, under ours."""
    for name, case in cases:
        if words and not any(w in name for w in words):
            continue
        for suffix, engine in engines.items():
            native_kind, native = outcome(engine, lambda e, c=case: c(e, NATIVE, "/bin/demo"))
            kind, wasm = outcome(engine, lambda e, c=case: c(e, WASM, "/app.wasm"))
            if kind == "value" and native_kind == "value" and native == wasm:
                rows.add(name + suffix, "passed")
            else:
                rows.add(name + suffix, "failed", f"native {native!r}, wasm {wasm!r}"[:600])
