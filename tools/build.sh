#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build.sh [--release|--dev|--tsan|--fuzz] [TARGET...]: configures once, then builds. Release by default: the
# three programs, the engine's objects, the benchmark helpers and the guests.
. "$(dirname "$0")/lib.sh"
preset=release
case "${1-}" in --release|--dev|--tsan|--fuzz) preset=${1#--}; shift ;; esac
targets=("$@")

[ "${AMPHORA_SETUP_DONE-}" = 1 ] || "$top/tools/setup.sh"
export AMPHORA_SETUP_DONE=1
# A machine may have an older cargo first in PATH than Debian's.
for cargo in "$(command -v cargo || true)" "$HOME/.cargo/bin/cargo" /usr/bin/cargo; do
  [ -x "$cargo" ] && [ "$(printf '%s\n' 1.95 "$("$cargo" --version | awk '{print $2}')" | sort -V | head -n 1)" = 1.95 ] && break
done
export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache} CCACHE_BASEDIR=$top CCACHE_NOHASHDIR=1
mkdir -p "$CCACHE_DIR"
dir=$top/build/$preset
key=$(content_hash CMakePresets.json)-$cargo-$cache
if [ ! -e "$dir/build.ninja" ] || [ "$(cat "$dir/.amphora-preset" 2>/dev/null)" != "$key" ]; then
  say "configuring the $preset build"
  (cd "$top" && logged "cmake $preset" cmake --preset "$preset" -DAMPHORA_CARGO="$cargo" -DAMPHORA_CARGO_TARGET_DIR="$cache/cargo")
  printf '%s' "$key" > "$dir/.amphora-preset"
fi
if [ "$preset" = release ]; then
  "$top/tools/guests.sh"
  if ! compgen -G "$cache/cargo/release/deps/libwasmtime-*.rlib" >/dev/null; then
    say "first build of the wasm engine: about 16 minutes on two cores (kept in $cache/cargo)"
  fi
fi
# Two at once in one directory would each take the other's half-made files.
exec {lock}> "$dir/.amphora-lock"
flock -n "$lock" || { say "waiting for another build in build/$preset"; flock "$lock"; }
todo=$(ninja -C "$dir" -n "${targets[@]}" 2>/dev/null | grep -c '^\[[1-9]' || true)
[ "$todo" = 0 ] || { say "building $preset: ${targets[*]:-all} ($todo steps, $jobs at a time)"
  logged "build $preset" ninja -k 20 -C "$dir" -j "$jobs" "${targets[@]}"; }
# By hand: what was started beside it may hold the descriptor for a while yet.
flock -u "$lock"
if [ "$preset" = release ] && [ ${#targets[@]} = 0 ] && [ ! -e "$dir/lib/amphora/libamphora-aot-wamr.so" ]; then
  say "no LLVM 19 here (Debian: llvm-19-dev): engine wamr is built without code: aot"
fi
say "$preset build is up to date in build/$preset"
