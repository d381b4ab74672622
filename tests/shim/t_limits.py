# SPDX-License-Identifier: Apache-2.0
"""Limits hold for both kinds, in the container's own cgroup (docs/testing.md, list 6)."""

from tests.shim.t_lifecycle import events_of
from tests.shim.t_native import cgroup_file
from tests.support import lab as L
from tests.support.runner import check, contains, equal

GREEDY = ((L.NATIVE, ["demo", "eat", "512"]), (L.WASM, ["/app.wasm", "eat", "512"]))


def test_a_greedy_program_is_killed_with_137_and_an_event(lab):
    for image, cmd in GREEDY:
        # The module is compiled before: what is measured is the guest.
        lab.run(L.AMPHORA, image, cmd[0], "true").ok()
        id, results = lab.new_id("eat"), []
        events = events_of(lab, lambda: results.append(
            lab.run(L.AMPHORA, image, *cmd, id=id, options=["--memory-limit", str(48 << 20)])))
        equal(results[0].code, 137, f"{image}: {results[0]!r}")
        contains(results[0].out, "16 MiB\n", image)
        topics = [t for t, e in events if e.get("container_id") == id]
        check("/tasks/oom" in topics, f"{image}: no TaskOOM among {topics}")


def test_enough_memory_is_enough(lab):
    for image, cmd in GREEDY:
        r = lab.run(L.AMPHORA, image, cmd[0], "eat", "24", options=["--memory-limit", str(96 << 20)])
        equal(r.code, 0, f"{image}: {r!r}")


def test_limits_of_a_wasm_container_are_in_its_own_cgroup(lab):
    id = lab.detached(L.AMPHORA, L.WASM, "/app.wasm", "daemon", options=[
        "--memory-limit", str(64 << 20), "--cpus", "0.5"])
    equal(cgroup_file(lab, id, "memory", "memory.limit_in_bytes"), str(64 << 20))
    equal(cgroup_file(lab, id, "cpu", "cpu.cfs_quota_us"), "50000")
    with open(f"/proc/{lab.pid(id)}/cgroup", encoding="utf-8") as f:
        paths = {line.strip().split(":", 2)[2] for line in f}
    equal(paths, {f"/{lab.namespace}/{id}"}, "the guest's cgroup in every hierarchy")
    lab.end(id)
