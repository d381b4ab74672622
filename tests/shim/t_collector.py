# SPDX-License-Identifier: Apache-2.0
"""What a Prometheus server gets of containerd: its collector asks every shim for statistics and reads what is inside
without a look, so that a hole in one answer would end containerd."""

import re
import urllib.request

from tests.support import lab as L
from tests.support.runner import check, equal, eventually

LIMIT = 64 << 20
# What a machine may have nothing to tell of, whoever runs the container.
OPTIONAL = ("container_blkio_", "container_hugetlb_", "container_rdma_", "container_network_")


def scraped():
    """container id -> family -> value, the last one where a family has several."""
    rows = {}
    with urllib.request.urlopen(f"http://{L.METRICS}/v1/metrics", timeout=60) as answer:
        text = answer.read().decode()
    for family, labels, value in re.findall(r"^(container_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        rows.setdefault(labels["container_id"], {})[family] = float(value)
    return rows


def families(row):
    return {family for family in row if not family.startswith(OPTIONAL)}


def scrape(lab, count):
    """`count` tasks, every fourth a guest, beside one under runc's shim."""
    options = ["--memory-limit", str(LIMIT)]
    model = lab.detached(L.RUNC, L.NATIVE, "demo", "pause", options=options)
    ids = [lab.detached(L.AMPHORA, L.WASM, "/app.wasm", "sleep", "1000", options=options) if i % 4 == 3 else
           lab.detached(L.AMPHORA, L.NATIVE, "demo", "pause", options=options) for i in range(count)]
    try:
        rows = scraped()
        check(len(families(rows[model])) > 40, f"runc's has few numbers: {sorted(rows[model])}")
        for id in ids:
            check(id in rows, f"{id} is not told of")
            equal(families(rows[model]) ^ families(rows[id]), set(), f"{id}: numbers that only one of the shims tells")
            equal(rows[id]["container_memory_usage_limit_bytes"], LIMIT, f"{id}: limit")
            check(rows[id]["container_memory_usage_usage_bytes"] > 0, f"{id}: memory")
            check(rows[id]["container_cpu_total_nanoseconds"] > 0, f"{id}: CPU time")
            check(rows[id]["container_pids_current"] >= 1, f"{id}: processes")
        # Stopped ones and those that go while they are asked for.
        for id in ids[::2]:
            lab.ctr("task", "kill", "-s", "SIGKILL", id).ok()
            scraped()
        for id in ids[::2]:
            eventually(lambda: lab.task_status(id) == "STOPPED", 10, f"{id} stops")
        rows = scraped()
        for id in ids[1::2]:
            check(rows[id]["container_pids_current"] >= 1, f"{id}: processes, after others have ended")
        check(lab.daemon.poll() is None, "containerd has ended")
    finally:
        lab.end(model, *ids)


def test_a_scrape_beside_runcs_shim(lab):
    scrape(lab, 8)
