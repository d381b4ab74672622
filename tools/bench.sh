#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh [SECTION...]: run, ctr, rpc, shim, memory, syscalls (all by default). ROUNDS=N, default 40. Wants a
# quiet machine; ratios hold on a busy one too, as all that is compared is run in turn.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || die "benchmarks make containers and need root"
"$top/tools/build.sh"
work=$(mktemp -d /var/tmp/amphora-bench.XXXXXX)
trap 'rm -rf --one-file-system "$work"; rmdir /var/lib/amphora /var/cache/amphora 2>/dev/null || true' EXIT
DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
cp -a "$top/build/guests" "$work/guests"
mkdir "$work/bench"
cp "$top"/build/release/benchmarks/bench_{floor,times} "$work/bench"
SRC=$top LAB=$work CGVIEW=v1 LAB_NAME=bench-$$ "$top/tests/support/inroot.sh" / \
  python3 /mnt/src/benchmarks/bench.py "$@"
