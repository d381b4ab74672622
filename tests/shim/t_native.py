# SPDX-License-Identifier: Apache-2.0
"""Native images through ctr: every case runs the same under runc's shim and ours, and what a user can
observe must agree (issue list, point 1)."""

import os
import re
import time

from tests.support import lab as L
from tests.support.runner import check, contains, equal, eventually


def both(function):
    """Runs function(runtime) for each runtime; its results must be equal."""
    results = {runtime: function(runtime) for runtime in L.RUNTIMES}
    reference = results[L.RUNTIMES[0]]
    for runtime, result in results.items():
        equal(result, reference, f"{runtime} beside {L.RUNTIMES[0]}")
    return reference


def test_stdout_stderr_and_exit_code(lab):
    def one(runtime):
        r = lab.run(runtime, L.NATIVE, "sh", "-c", "echo out; echo err >&2; exit 42")
        return r.code, r.out, r.err
    equal(both(one), (42, "out\n", "err\n"))
