# SPDX-License-Identifier: Apache-2.0
"""What containerd's contract with a shim asks beside plain runs: forms of the start's answer, waiters, stdio under
slow and absent readers, frames that are wrong, updates in every state. Asked of the shim directly, or
through ctr where a client's view counts. Codes and events are in t_lifecycle.py."""

from tests.shim.t_lifecycle import KINDS, Direct
from tests.support import ttrpc
from tests.support.runner import equal


def test_shared_root(lab):
    # What CRI asks for with a volume that propagates both ways; pivot_root refuses a root that is shared.
    d = Direct(lab, KINDS["native"])
    d.make(d.id, KINDS["native"], lambda spec: spec["linux"].update(rootfsPropagation="rshared"))
    try:
        code, text = d.create()
        equal(code, 0, text)
        pid = d.client.call("Start", (1, d.id))[1][0]
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            root = next(line for line in f if line.split()[4] == "/")
        equal("shared:" in root, True, f"the root is shared: {root}")
        equal(d.client.code_of("Kill", (1, d.id), (3, 9))[0], ttrpc.OK, "kill")
    finally:
        d.close()
