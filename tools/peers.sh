#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# peers.sh [GATE...]: the suites of others and other programs that drive a runtime, against ours and
# beside runc. Each gate is tests/peers/GATE.sh, which gets what it needs by environment, appends its
# cases to $RESULTS (tools/count.py's rows) and brings its own packages; docs/conformance.md has the
# counts. Slow: not part of ./dev test.
. "$(dirname "$0")/lib.sh"
gates=("$@")
if [ ${#gates[@]} -eq 0 ]; then
  for f in "$top"/tests/peers/*.sh; do [ -e "$f" ] && gates+=("$(basename "$f" .sh)"); done
fi
[ "$(id -u)" = 0 ] || die "the peers' suites make containers and need root"
for gate in "${gates[@]}"; do
  [ -x "$top/tests/peers/$gate.sh" ] || die "unknown gate '$gate': there are $(cd "$top/tests/peers" && ls -- *.sh | sed 's/\.sh$//' | tr '\n' ' ')"
done
"$top/tools/build.sh"
export AMPHORA_SETUP_DONE=1
work=$(mktemp -d /var/tmp/amphora-peers.XXXXXX)
trap 'rm -rf --one-file-system "$work"; rmdir /var/lib/amphora /var/cache/amphora 2>/dev/null || true' EXIT
DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
cp -a "$top/build/guests" "$work/guests"
results=$work/results
: > "$results"
for gate in "${gates[@]}"; do
  say "gate $gate"
  before=$(wc -l < "$results")
  # TOP: the tree; PREFIX_DIR: an installed amphora; GUESTS: test programs; WORK: a scratch directory of
  # the gate's own; KEEP: a directory that survives, for sources and trees that are costly to get.
  mkdir -p "$work/$gate" "$trees/$gate"
  TOP=$top PREFIX_DIR=$work/prefix GUESTS=$work/guests WORK=$work/$gate KEEP=$trees/$gate RESULTS=$results \
    "$top/tests/peers/$gate.sh" || echo "gate $gate: not all passed"
  if [ "$(wc -l < "$results")" = "$before" ]; then
    python3 "$top/tools/count.py" --fail "$gate" "the gate did not come up" "$results"
  fi
done
python3 "$top/tools/count.py" "$results"
