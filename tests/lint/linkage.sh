#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# linkage.sh BUILD: the release programs need nothing at load time but glibc (and the loader); an
# engine and libmount come by dlopen when they are wanted (docs/decisions).
set -eu
status=0
for program in "$1/executor/cli/amphora" "$1/shim/containerd-shim-amphora-v1" "$1/wasm/host/amphora-wasm" \
  "$1/content/amphora-content" "$1/image/amphora-image"; do
  [ -e "$program" ] || continue
  bad=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -vE '^(libc\.so\.6|libm\.so\.6|ld-linux-x86-64\.so\.2)$' || true)
  if [ -n "$bad" ]; then
    echo "${program##*/} is linked to: $(tr '\n' ' ' <<<"$bad")"
    status=1
  fi
  flags=$(readelf -d "$program")
  grep -q 'BIND_NOW\|Flags: NOW' <<<"$flags" || { echo "${program##*/}: not linked with -z now"; status=1; }
  readelf -h "$program" | grep -q 'DYN (' || { echo "${program##*/}: not position independent"; status=1; }
done
# Linked with the start-up code that does not ask for caches (docs/decisions/0019-start-up-code.md), where it could be made.
if [ -e "$1/libc-start.o" ]; then
  for program in "$1/executor/cli/amphora" "$1/shim/containerd-shim-amphora-v1"; do
    at=$(nm "$program" 2>/dev/null | awk '$3 ~ /^handle_intel/ {print "0x" $1}')
    # mov $0x100000,%eax; ret: not disassembled, as a jump leads there over bytes that are no code any more.
    [ -n "$at" ] && objdump -s --start-address="$at" --stop-address=$((at + 160)) "$program" | awk '/^ / {print $2 $3 $4 $5}' |
      tr -d '\n' | grep -q b800001000c3 ||
      { echo "${program##*/}: its start-up code still asks the processor for its caches"; status=1; }
  done
fi
exit "$status"
