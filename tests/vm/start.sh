#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# start.sh COMMAND [ARGUMENT...]: runs COMMAND in a fresh machine and hands back its output and exit code
# (124: it took longer than VM_LIMIT seconds, 125: the guest died). Runs do not see each other: what they
# write to the disk is thrown away. By environment: VM_GUEST (from tree.sh), VM_SHARE and VM_SRC
# (directories shown as /share and, read-only, /src), VM_MODE (resume, boot, save), VM_WORDS (for the
# kernel's command line, with boot), VM_CPUS, VM_MEMORY (MiB; both with boot), VM_VERBOSE.
set -eu
export VM_MODE=${VM_MODE-resume} VM_LIMIT=${VM_LIMIT-300} VM_SHARE=${VM_SHARE-} VM_SRC=${VM_SRC-}
export VM_WORDS=${VM_WORDS-} VM_CPUS=${VM_CPUS-2} VM_MEMORY=${VM_MEMORY-2048} VM_GUEST
VM_WORK=$(mktemp -d /var/tmp/amphora-vm.XXXXXX)
export VM_WORK
trap 'rm -rf --one-file-system "$VM_WORK"' EXIT
mkdir "$VM_WORK/job"
: > "$VM_WORK/console"; : > "$VM_WORK/job/out"
date +%s > "$VM_WORK/job/now"
head -c 64 /dev/urandom > "$VM_WORK/job/seed"
{ printf '#!/bin/bash\nexec'; printf ' %q' "$@"; echo; } > "$VM_WORK/job/command"
chmod +x "$VM_WORK/job/command"
[ -z "${VM_VERBOSE-}" ] || { tail -q -f --pid=$$ "$VM_WORK/console" >&2 & }
code=0
# All mounts vanish with the namespace, and nothing outlives this script.
unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
  timeout -k 5 "$VM_LIMIT" python3 "$(dirname "$0")/machine.py" || code=$?
if [ "$VM_MODE" = save ]; then [ "$code" = 0 ] && exit 0
elif [ -s "$VM_WORK/job/code" ]; then exit "$(cat "$VM_WORK/job/code")"
fi
[ "$code" = 124 ] && { echo "vm: ended after $VM_LIMIT s" >&2; exit 124; }
{ cat "$VM_WORK"/*.log; tail -n 60 "$VM_WORK/console"; } >&2
echo "vm: the guest died ($code)" >&2
exit 125
