#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Docker's engine, from a Debian sid tree with its own containerd: each case with runc, with the command
# `amphora` under containerd's runc shim (daemon.json: path), and with our shim (runtimeType); native and wasm
# images, made on the spot. Environment: tools/peers.sh.
set -eu -o pipefail
tree=$("$TOP/tools/sid-tree.sh" docker)
cp -a "$PREFIX_DIR" "$WORK/prefix"
cp -a "$GUESTS" "$WORK/guests"
SRC=$TOP LAB=$WORK "$TOP/tests/support/inroot.sh" "$tree" python3 /mnt/src/tests/peers/docker.py "$@" || echo "not all passed"
cat "$WORK/results" >> "$RESULTS"
