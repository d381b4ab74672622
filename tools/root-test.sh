#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tests that need root: everything but lint, unit and golden.
exec "$(dirname "$0")/test.sh" root cli cli-v2 shim shim2 "$@"
