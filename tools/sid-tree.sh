#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sid-tree.sh [SET]: makes (once, cached for 30 days) a Debian sid tree with containerd 2.x, which the tests enter
# by pivot_root. SET names what a gate needs beyond that, in a tree of its own: cri (CNI plugins, iptables),
# docker (its engine and client).
# Prints its path on stdout; progress goes to stderr.
. "$(dirname "$0")/lib.sh"
set=${1-}
tree=$trees/sid${set:+-$set}
packages=containerd,runc,busybox-static,python3-minimal,libpython3-stdlib,iproute2,procps,mount,binutils,systemd,dbus,criu,iptables
case "$set" in
  "") ;;
  cri) packages+=,containernetworking-plugins ;;
  docker) packages=${packages%,systemd,dbus,criu,iptables},docker.io,docker-cli,docker-compose,iptables,ca-certificates ;;
  *) die "sid-tree.sh knows no set '$set'" ;;
esac
key="sid-1 $packages"
if [ "$(cat "$tree/.amphora-tree" 2>/dev/null)" = "$key" ]; then echo "$tree"; exit 0; fi
[ "$(id -u)" = 0 ] || die "making the sid tree needs root"
say "making a Debian sid tree with containerd 2.x in $tree (about 90 s)" >&2
rm -rf --one-file-system "$tree.new"
mkdir -p "$trees"
logged "mmdebstrap sid" mmdebstrap --variant=minbase --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg sid "$tree.new" "$(debian_mirror)" >&2
printf '%s' "$key" > "$tree.new/.amphora-tree"
rm -rf --one-file-system "$tree"
mv "$tree.new" "$tree"
echo "$tree"
