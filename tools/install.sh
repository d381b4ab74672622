#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh: builds the release and installs it into DESTDIR/PREFIX (default /usr/local):
# bin/amphora, bin/containerd-shim-amphora-v1 and the names that choose an engine, libexec/amphora/amphora-wasm, lib/amphora/*.so.
. "$(dirname "$0")/lib.sh"
prefix=${PREFIX:-/usr/local}
"$top/tools/build.sh" >&2
DESTDIR=${DESTDIR-} cmake --install "$top/build/release" --prefix "$prefix" --strip > "$cache/install.log" ||
  { cat "$cache/install.log"; die "installing into ${DESTDIR-}$prefix failed"; }
say "installed into ${DESTDIR-}$prefix"
