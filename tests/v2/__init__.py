# SPDX-License-Identifier: Apache-2.0
"""Cgroup v2 with all its controllers: run in the guest of tests/vm (./dev vm)."""
from tests.support.bare import Bare as LAB  # noqa: F401
