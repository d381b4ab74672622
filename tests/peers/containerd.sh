#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# containerd.sh: the shim's suite (tests/shim) under containerd versions that no Debian has, built by the go command: the
# last 1.7 and the newest 2.x. CONTAINERD_VERSIONS picks others, AMPHORA_WORDS cases by a part of their names.
set -eu
read -ra versions <<< "${CONTAINERD_VERSIONS-1.7.35 2.4.2}"
read -ra words <<< "${AMPHORA_WORDS-}"
tree=$("$TOP/tools/sid-tree.sh")
rc=0
for version in "${versions[@]}"; do
  binaries=$("$TOP/tools/containerd.sh" "$version")
  lab=$WORK/lab-$version
  mkdir -p "$lab"
  cp -a "$PREFIX_DIR" "$lab/prefix"
  cp -a "$GUESTS" "$lab/guests"
  cp "$binaries"/* "$lab/prefix/bin/"
  SRC=$TOP LAB=$lab SUITE_NAME=containerd-$version LAB_NAME=containerd-$$ "$TOP/tests/support/inroot.sh" "$tree" \
    python3 /mnt/src/tests/support/main.py shim /mnt/lab/results "${words[@]}" || rc=1
  if [ -s "$lab/results" ]; then cat "$lab/results" >> "$RESULTS"
  else python3 "$TOP/tools/count.py" --fail "containerd-$version" "the suite did not come up" "$RESULTS"; fi
  if [ -n "${AMPHORA_KEEP_LOGS-}" ]; then cp "$lab/containerd.log" "$AMPHORA_KEEP_LOGS/containerd-$version.log"; fi
  rm -rf --one-file-system "$lab"
done
exit $rc
