#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh: builds what is missing, then shows a native and a wasm container in one pod under a real
# containerd. Everything happens in namespaces of its own and ends with them.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || die "the demo makes containers and needs root"
"$top/tools/build.sh"
work=$(mktemp -d /var/tmp/amphora-demo.XXXXXX)
trap 'rm -rf --one-file-system "$work"; rmdir /var/lib/amphora /var/cache/amphora 2>/dev/null || true' EXIT
DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
cp -a "$top/build/guests" "$work/guests"
SRC=$top LAB=$work LAB_NAME=demo-$$ "$top/tests/support/inroot.sh" / python3 /mnt/src/tools/demo.py
