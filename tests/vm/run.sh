#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [-C] [-t SECONDS] [-k WORD]... [SUITE...]: our v2 and systemd suites in a throw-away guest (pure
# cgroup v2, systemd as pid 1, all capabilities, AppArmor), ending with one count.
# run.sh [-C] [-t SECONDS] [-a DIR]... -- COMMAND...: COMMAND in the guest instead, as root, in a directory with
# prefix/ (an installed tree, in PATH), guests/ and copies of the DIRs; the source is at /src, what it leaves in
# /share comes back to ./share. Its exit code is this script's. -C boots the guest rather than resume the saved one.
. "$(dirname "$0")/../../tools/lib.sh"
words=()
suites=()
command=()
along=()
limit=900
mode=resume
while [ $# -gt 0 ]; do
  case "$1" in
    -C) mode=boot; shift ;;
    -t) limit=$2; shift 2 ;;
    -k) words+=("$2"); shift 2 ;;
    -a) along+=("$2"); shift 2 ;;
    --) shift; command=("$@"); break ;;
    v2|systemd) suites+=("$1"); shift ;;
    *) die "unknown argument '$1'; the suites are v2 and systemd" ;;
  esac
done
[ ${#suites[@]} -gt 0 ] || suites=(v2 systemd)
[ "$(id -u)" = 0 ] || die "the guest needs root"
"$top/tools/build.sh"
export AMPHORA_SETUP_DONE=1
guest=$("$top/tests/vm/tree.sh")
work=$(mktemp -d /var/tmp/amphora-vmrun.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir "$work/share"
DESTDIR=$work/share/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
cp -a "$top/build/guests" "$work/share/guests"
mkdir "$work/share/along"
for d in "${along[@]}"; do cp -a "$d" "$work/share/along/"; done
# In the guest everything runs from its own disk.
cat > "$work/share/go" <<'SCRIPT'
#!/bin/bash
mkdir -p /mnt/src /mnt/lab /var/lib/lab /var/lib/amphora /var/cache/amphora
mount --bind /src /mnt/src
mount --bind /var/lib/lab /mnt/lab
cp -a /share/prefix /share/guests /share/along/. /mnt/lab/
export PATH=/mnt/lab/prefix/bin:$PATH PYTHONDONTWRITEBYTECODE=1
cd /mnt/lab
exec "$@"
SCRIPT
chmod +x "$work/share/go"
export VM_GUEST=$guest VM_SHARE=$work/share VM_SRC=$top VM_MODE=$mode VM_LIMIT=$limit
code=0
if [ ${#command[@]} -gt 0 ]; then
  "$top/tests/vm/start.sh" /share/go "${command[@]}" || code=$?
  rm -rf "$work/share/prefix" "$work/share/guests" "$work/share/along" "$work/share/go"
  if [ -n "$(ls -A "$work/share")" ]; then mkdir -p share && cp -a "$work/share/." share/; fi
  exit "$code"
fi
results=$work/share/results
: > "$results"
for suite in "${suites[@]}"; do
  say "$suite in the guest"
  before=$(wc -l < "$results")
  "$top/tests/vm/start.sh" /share/go env SUITE_NAME="vm-$suite" LAB_NAME=vm VM=yes \
    python3 /mnt/src/tests/support/main.py "$suite" /share/results "${words[@]}" || echo "vm-$suite: not all passed"
  if [ "$(wc -l < "$results")" = "$before" ]; then
    python3 "$top/tools/count.py" --fail "vm-$suite" "the suite did not come up" "$results"
  fi
done
say "done"
python3 "$top/tools/count.py" "$results"
