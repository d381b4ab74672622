# SPDX-License-Identifier: Apache-2.0
"""What is known to go wrong elsewhere and has no better place (docs/runwasi.md names a case for every
point)."""

import json
import os
import time

from tests.support import inventory
from tests.support import lab as L
from tests.support.runner import check, equal


def test_a_program_that_only_its_owner_may_run(lab):
    share = L.LAB + "/owned"
    os.makedirs(share, exist_ok=True)
    with open(L.GUESTS + "/demo", "rb") as source, open(share + "/tool", "wb") as f:
        f.write(source.read())
    os.chown(share + "/tool", 1000, 1000)
    os.chmod(share + "/tool", 0o750)
    options = ["--mount", f"type=bind,src={share},dst=/own,options=rbind:ro", "--env", "PATH=/own:/bin"]
    equal(lab.run(L.AMPHORA, L.NATIVE, "tool", "echo", "root", options=options).ok().out, "root\n")
    equal(lab.run(L.AMPHORA, lab.native_as("1000:1000"), "tool", "echo", "owner", options=options).ok().out, "owner\n")


def test_the_pid_of_a_created_task_is_its_own(lab):
    for image, words in ((L.NATIVE, ["/bin/demo", "pause"]), (L.WASM, ["/app.wasm", "daemon"])):
        id = lab.detached(L.AMPHORA, image, *words)
        pid = lab.pid(id)
        check(pid not in lab.shims(), f"{words}: the task's pid is the shim's")
        check(os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"), f"{words}: pid {pid} is in our network")
        lab.end(id)


def test_cpu_time_is_told_in_nanoseconds(lab):
    for image, words in ((L.WASM, ["/app.wasm", "spin"]), (L.MIXED, ["/bin/demo", "spin"])):
        id = lab.detached(L.AMPHORA, image, *words)
        time.sleep(1.5)
        document = json.loads(lab.ctr("task", "metrics", "--format", "json", id).ok().out)
        data = document.get("data", document)
        cpu = data.get("cpu", {})
        total = int(cpu["usage"]["total"]) if "usage" in cpu else int(cpu["usage_usec"]) * 1000
        check(0.1e9 < total < 8e9, f"{words}: a loop of 1.5 s took {total} ns of CPU")
        lab.end(id)


def test_processes_of_a_container_are_few(lab):
    def ours():
        return [line for line in inventory.processes().values()
                if "[zombie]" not in line and ("amphora" in line.split(" ")[0] or line.startswith("/app.wasm"))]
    before = len(ours())
    first = lab.detached(L.AMPHORA, L.WASM, "/app.wasm", "daemon")
    after = ours()
    # The shim, the zygote that its guests are cloned from, the guest itself.
    equal(len(after) - before, 3, f"{after}")
    lab.end(first)
