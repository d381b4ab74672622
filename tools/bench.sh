#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh [SECTION...]: run, exec, mounts, limit, rss, syscalls, ctr, rpc, shim, memory, clone, cpu, http, first (all by default). ROUNDS=N,
# default 40. Wants a quiet machine; ratios hold on a busy one too, as all that is compared is run in turn.
# runc's newest release stands beside Debian's where Go can build it (RUNC_NEW=VERSION, empty: without).
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || die "benchmarks make containers and need root"
"$top/tools/build.sh"
work=$(mktemp -d /var/tmp/amphora-bench.XXXXXX)
trap 'rm -rf --one-file-system "$work"; rmdir /var/lib/amphora /var/cache/amphora 2>/dev/null || true' EXIT
DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
cp -a "$top/build/guests" "$work/guests"
mkdir "$work/bench"
cp "$top"/build/release/benchmarks/bench_{floor,times,load,compile,clone} "$work/bench"
# The engine with nothing of ours around it, to hold guests against.
cargo=$(sed -n 's/^AMPHORA_CARGO:[A-Z]*=//p' "$top/build/release/CMakeCache.txt")
(cd "$top/wasm/engines/wasmtime" && logged "bare engine" env CARGO_TARGET_DIR="$cache/cargo" PATH="$(dirname "$cargo"):$PATH" \
  "$cargo" build --release --locked -p amphora-bare)
cp "$cache/cargo/release/amphora-bare" "$work/bench"
# The module by the go command, with seccomp as distributions build it; kept, as it takes a minute or two.
runc_new=${RUNC_NEW-v1.5.2}
if [ -n "$runc_new" ] && [ ! -x "$cache/runc-$runc_new" ]; then
  say "building runc $runc_new beside Debian's"
  mkdir -p "$cache/logs" "$work/runc"
  (cd "$work/runc" && go mod init bench && go get "github.com/opencontainers/runc@$runc_new" &&
    go build -tags seccomp -o "$cache/runc-$runc_new" github.com/opencontainers/runc) > "$cache/logs/runc-new.log" 2>&1 ||
    warn "runc $runc_new is left out: it could not be built ($cache/logs/runc-new.log)"
fi
if [ -n "$runc_new" ] && [ -x "$cache/runc-$runc_new" ]; then cp "$cache/runc-$runc_new" "$work/bench/runc-new"; fi
SRC=$top LAB=$work CGVIEW=v1 LAB_NAME=bench-$$ "$top/tests/support/inroot.sh" / \
  python3 /mnt/src/benchmarks/bench.py "$@"
