#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SUITE TREE RESULTS [FLAG...]: builds the CRI program and its images, runs them inside TREE (/ or another
# Debian's) with an installed amphora. Flags are the program's (main.go). Environment: TOP the sources,
# PREFIX_DIR an installed tree, GUESTS the test programs, WORK a scratch directory, CONTAINERD_DIR (or empty) a containerd
# with its shim in the place of the tree's.
set -eu
suite=$1 tree=$2 results=$3
shift 3
lab=$WORK/lab-$suite
mkdir -p "$lab/programs"
for p in pause setuid; do ${CC:-cc} -Os -static -s -o "$lab/programs/$p" "$TOP/tests/cri/programs/$p.c"; done
(cd "$TOP/tests/cri" && CGO_ENABLED=0 go build -trimpath -o "$lab/cri" .)
python3 "$TOP/tests/cri/images.py" "$lab/images" "$GUESTS" "$lab/programs"
cp -a "$PREFIX_DIR" "$lab/prefix"
[ -z "${CONTAINERD_DIR-}" ] || cp "$CONTAINERD_DIR"/* "$lab/prefix/bin/"
cp -a "$TOP/deploy" "$lab/deploy"
[ ! -e "$GUESTS/http.wasm" ] || set -- -components "$@"
: > "$lab/results"
rc=0
# The shell stays as pid 1 of the new namespace: it reaps the shims' orphans.
SRC=$TOP LAB=$lab "$TOP/tests/support/inroot.sh" "$tree" bash -c '"$@"; exit $?' cri \
  /mnt/lab/cri -suite "$suite" -cgroup "$suite-$$" -results /mnt/lab/results -table /mnt/lab/table "$@" || rc=$?
if [ -s "$lab/results" ]; then cat "$lab/results" >> "$results"; else rc=2; fi
if [ -s "$lab/table" ]; then cp "$lab/table" "$WORK/table-$suite"; fi
if [ -n "${AMPHORA_KEEP_LOGS-}" ]; then cp "$lab/containerd.log" "$AMPHORA_KEEP_LOGS/$suite.log"; fi
rm -rf --one-file-system "$lab"
exit $rc
