#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The validation programs of the OCI's runtime-tools (a Go module, built here by the go command), each run with
# Debian's runc and with ours. runtime-tools.known names those that say nothing about a runtime, and why.
# Environment: tools/peers.sh.
set -eu -o pipefail
module=github.com/opencontainers/runtime-tools
if ! command -v go >/dev/null; then
  python3 "$TOP/tools/count.py" --skip runtime-tools "no Go here to build the validation programs" "$RESULTS"
  exit 0
fi
key="1 $(go version) $(sha256sum < "$TOP/tests/peers/runtime-tools.mod")"
if [ "$(cat "$KEEP/key" 2>/dev/null)" != "$key" ]; then
  rm -rf "$KEEP/mod" "$KEEP/bin"
  mkdir -p "$KEEP/mod" "$KEEP/bin"
  cp "$TOP/tests/peers/runtime-tools.mod" "$KEEP/mod/go.mod"
  echo "building $module's validation programs (about a minute)"
  (
    cd "$KEEP/mod"
    export GOFLAGS=-mod=mod
    CGO_ENABLED=0 go build -o "$KEEP/bin/" $module/cmd/runtimetest
    mkdir -p "$KEEP/bin/validation"
    for package in $(go list $module/validation/...); do
      case "$package" in */util) continue ;; esac
      go build -o "$KEEP/bin/validation/" "$package"
    done
    cp "$(go list -m -f '{{.Dir}}' $module)/rootfs-$(go env GOARCH).tar.gz" "$KEEP/bin/"
  ) > "$WORK/build.log" 2>&1 || { tail -n 20 "$WORK/build.log"; exit 1; }
  printf '%s' "$key" > "$KEEP/key"
fi
cp -a "$PREFIX_DIR" "$WORK/prefix"
cp -a "$KEEP/bin" "$WORK/bin"
SRC=$TOP LAB=$WORK "$TOP/tests/support/inroot.sh" / python3 /mnt/src/tests/peers/runtime_tools.py "$@" || echo "not all passed"
cat "$WORK/results" >> "$RESULTS"
