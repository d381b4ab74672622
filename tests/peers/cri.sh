#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cri.sh: pods through CRI, as kubelet and crictl make them, under runc's shim and under ours: with this Debian's
# containerd 1.6, sid's 2.x, and the last 1.7 and the newest 2.x, built by the go command. The program is tests/cri;
# AMPHORA_CRI_WORDS picks cases by a part of their names, AMPHORA_CRI_SUITES some of cri-1.6, cri-2, cri-1.7, cri-2.4.
set -eu
missing=()
for p in containernetworking-plugins iptables runc containerd busybox-static; do
  dpkg -s "$p" > /dev/null 2>&1 || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get install -y --no-install-recommends "${missing[@]}" > "$WORK/apt.log" 2>&1 || { tail -n 20 "$WORK/apt.log" >&2; exit 1; }
fi
if ! command -v go > /dev/null && [ -x /usr/local/go/bin/go ]; then PATH=$PATH:/usr/local/go/bin; fi
if ! command -v go > /dev/null; then
  python3 "$TOP/tools/count.py" --skip cri "no Go toolchain: the program is built on kubelet's own modules" "$RESULTS"
  exit 0
fi
flags=()
[ -z "${AMPHORA_CRI_WORDS-}" ] || flags=(-words "$AMPHORA_CRI_WORDS")
rc=0
read -ra suites <<< "${AMPHORA_CRI_SUITES-cri-1.6 cri-2 cri-1.7 cri-2.4}"
for suite in "${suites[@]}"; do
  tree=/ CONTAINERD_DIR=
  [ "$suite" = cri-1.6 ] || tree=$("$TOP/tools/sid-tree.sh" cri)
  case "$suite" in
    cri-1.7) CONTAINERD_DIR=$("$TOP/tools/containerd.sh" 1.7.35) ;;
    cri-2.4) CONTAINERD_DIR=$("$TOP/tools/containerd.sh" 2.4.2) ;;
  esac
  export CONTAINERD_DIR
  "$TOP/tests/cri/run.sh" "$suite" "$tree" "$RESULTS" "${flags[@]}" || rc=1
done
for table in "$WORK"/table-*; do
  [ -e "$table" ] || continue
  sed -n '1p;/^| /p;$p' "$table"
  cp "$table" "$KEEP/"
done
exit $rc
