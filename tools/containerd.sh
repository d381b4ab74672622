#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# containerd.sh VERSION: builds containerd, ctr and runc's shim of that version by the go command, once (kept in the
# cache); prints their directory. For versions that no Debian has. Progress goes to stderr.
. "$(dirname "$0")/lib.sh"
version=${1?usage: containerd.sh VERSION}
if ! command -v go > /dev/null && [ -x /usr/local/go/bin/go ]; then PATH=$PATH:/usr/local/go/bin; fi
command -v go > /dev/null || die "no Go toolchain: containerd $version is built with it"
dir=$cache/containerd-$version
if [ ! -e "$dir/done" ]; then
  module=github.com/containerd/containerd
  case "$version" in 1.*) ;; *) module=$module/v2 ;; esac
  say "building containerd $version (a few minutes)" >&2
  scratch=$(mktemp -d /var/tmp/amphora-containerd.XXXXXX)
  trap 'rm -rf --one-file-system "$scratch"' EXIT
  cd "$scratch"
  printf 'module scratch\n' > go.mod
  logged "containerd $version: modules" go get "$module/cmd/containerd@v$version" >&2
  for program in containerd ctr containerd-shim-runc-v2; do
    CGO_ENABLED=0 logged "containerd $version: $program" go build -mod=mod -trimpath \
      -tags "no_btrfs no_devmapper no_aufs no_zfs osusergo netgo static_build" \
      -ldflags "-s -w -X $module/version.Version=v$version" -o "$dir/bin/$program" "$module/cmd/$program" >&2
  done
  : > "$dir/done"
fi
echo "$dir/bin"
