# SPDX-License-Identifier: Apache-2.0
"""The systemd driver under a real systemd: sdns.sh's, natively, and the guest's (./dev vm)."""
from tests.support.bare import Bare as LAB  # noqa: F401
