#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vm.sh: our cgroup v2 and systemd tests in a guest of tests/vm.
. "$(dirname "$0")/lib.sh"
[ -x "$top/tests/vm/run.sh" ] || die "tests/vm/run.sh is missing"
exec "$top/tests/vm/run.sh" "$@"
