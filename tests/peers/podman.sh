#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's podman, each case with `--runtime runc` and with ours; native and wasm images, made on the spot.
# Environment: tools/peers.sh.
set -eu -o pipefail
packages=(podman conmon uidmap catatonit)
if ! dpkg-query -W "${packages[@]}" >/dev/null 2>&1; then
  echo "installing ${packages[*]}"
  apt-get -qq -o Acquire::Check-Valid-Until=false update
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -y -q install --no-install-recommends "${packages[@]}" > "$WORK/apt.log" 2>&1 ||
    { tail -n 5 "$WORK/apt.log"; exit 1; }
fi
cp -a "$PREFIX_DIR" "$WORK/prefix"
cp -a "$GUESTS" "$WORK/guests"
SRC=$TOP LAB=$WORK "$TOP/tests/support/inroot.sh" / python3 /mnt/src/tests/peers/podman.py "$@" || echo "not all passed"
cat "$WORK/results" >> "$RESULTS"
