# SPDX-License-Identifier: Apache-2.0
# What the verbs of ./dev share: places, progress lines with elapsed time, stamps that make a step
# with nothing to do cost nothing. Sourced, never run.
# shellcheck shell=bash
set -eu -o pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${AMPHORA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/amphora}
# Trees of other Debian releases: large, worth keeping between checkouts.
trees=${AMPHORA_TREES:-/var/tmp/amphora}
mkdir -p "$cache/stamps"
started=${AMPHORA_STARTED:-$(date +%s)}
export AMPHORA_STARTED=$started
jobs=${AMPHORA_JOBS:-$(nproc)}

say() {  # one progress line: minutes:seconds since the verb began, then the words
  local s=$(($(date +%s) - started))
  printf '[%2d:%02d] %s\n' $((s / 60)) $((s % 60)) "$*"
}
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND...: through sudo when we are not root already.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
  else die "this step needs root: run as root, or with a sudo that asks no password: $*"; fi
}

# content_hash FILE...: one hash over names and bytes of files that git would see.
content_hash() {
  (cd "$top" && { git ls-files -co --exclude-standard -- "$@" 2>/dev/null || find "$@" -type f; } |
    sort -u | while IFS= read -r f; do [ -f "$f" ] && printf '%s\0' "$f"; done |
    xargs -0 -r sha256sum | sha256sum | cut -c1-32)
}
# stamped NAME KEY: true when NAME was last done with KEY. stamp NAME KEY: it is done.
stamped() { [ "$(cat "$cache/stamps/$1" 2>/dev/null)" = "$2" ]; }
stamp() { printf '%s' "$2" > "$cache/stamps/$1"; }

# logged NAME COMMAND...: runs quietly, output to a log; a line a minute says it still runs; on
# failure the log's end is shown.
logged() {
  local name=$1 log rc=0 pid
  shift
  # By checkout: two of them may build side by side.
  mkdir -p "$cache/logs"
  log=$cache/logs/${name//[^a-zA-Z0-9]/-}-$(cksum <<<"$top" | cut -d' ' -f1).log
  "$@" > "$log" 2>&1 &
  pid=$!
  ( while sleep 60; do say "  $name: still at it: $(tail -n 1 "$log" | cut -c1-90)"; done ) &
  local ticker=$!
  wait "$pid" || rc=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  [ "$rc" = 0 ] && return 0
  tail -n 40 "$log" >&2
  die "$name failed ($rc); the whole log: $log"
}

# debian_mirror: the mirror of this machine's own apt sources; what serves its release serves others too.
debian_mirror() {
  local mirror
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
  [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)
  echo "$mirror"
}
