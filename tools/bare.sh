#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bare.sh [--cold] [--keep] [--tree] [COMMAND...]: proves the set-up on a machine that has nothing. A minimal
# Debian 12 (its packages: the essential ones, apt, git, ca-certificates) is made, entered by pivot_root in
# namespaces of its own, the last commit is cloned into it, and COMMAND (default: ./dev demo && ./dev test)
# runs there. What apt and cargo need to reach their registries here (sources, proxies, certificates) is
# handed in for the run by bind mounts and environment, and stays outside the tree.
#   --cold   with no cache at all; else bare's own cache, and this machine's ccache, are shared in
#   --keep   leaves the root behind and prints its path
#   --uncommitted   clones what is in the working tree instead of the last commit
. "$(dirname "$0")/lib.sh"
cold='' keep='' uncommitted=''
while [ $# -gt 0 ]; do
  case "$1" in
    --cold) cold=1 ;;
    --keep) keep=1 ;;
    --uncommitted) uncommitted=1 ;;
    --) shift; break ;;
    -*) die "unknown option '$1': --cold, --keep, --uncommitted" ;;
    *) break ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || die "a bare machine is made of mounts and namespaces and needs root"
for tool in mmdebstrap git; do
  command -v "$tool" >/dev/null || die "$tool is missing: ./dev setup brings it"
done
command=${*:-./dev demo && ./dev test}

# The base is made once a month; every run gets a copy.
base=$trees/bare-bookworm
include=git,ca-certificates
key="bare-1 $include $(date +%Y-%m)"
if [ "$(cat "$base.key" 2>/dev/null)" != "$key" ]; then
  say "making a minimal Debian 12 in $base"
  mirror=$(debian_mirror)
  rm -rf --one-file-system "$base.new"
  mkdir -p "$trees"
  logged "mmdebstrap bookworm" mmdebstrap --variant=minbase --include="$include" \
    --aptopt='APT::Install-Recommends "false"' --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    bookworm "$base.new" "$mirror"
  rm -rf --one-file-system "$base"
  mv "$base.new" "$base"
  printf '%s' "$key" > "$base.key"
fi
work=$(mktemp -d /var/tmp/amphora-bare.XXXXXX)
trap '[ -n "$keep" ] || rm -rf --one-file-system "$work"; rmdir "/sys/fs/cgroup"/*/amphora-bare-$$ 2>/dev/null || true' EXIT
say "a fresh root with $(dpkg-query --admindir="$base/var/lib/dpkg" -f '.\n' -W | wc -l) packages, $(du -sh "$base" | cut -f1)"
cp -a "$base" "$work/root"

# What this machine uses to reach its registries, outside the tree.
hand=$work/hand
mkdir -p "$hand/apt-lists" "$hand/cargo"
apt-config dump | grep -E '^(Acquire|Dir::Etc::netrc)' | grep -v -E '^Acquire::(GzipIndexes|Languages|IndexTargets|CompressionTypes)' \
  > "$hand/apt.conf" || true
for file in /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -e "$file" ]; then cp "$file" "$hand/apt-lists/"; fi
done
if [ -s /etc/apt/sources.list ]; then cp /etc/apt/sources.list "$hand/apt-lists/machine.list"; fi
cp /etc/ssl/certs/ca-certificates.crt "$hand/ca.crt"
for file in config.toml credentials.toml; do
  if [ -e "${CARGO_HOME:-$HOME/.cargo}/$file" ]; then cp "${CARGO_HOME:-$HOME/.cargo}/$file" "$hand/cargo/"; fi
done
env | grep -i -E '^(https?_proxy|no_proxy|all_proxy|CARGO_(HTTP|NET|REGISTR)[A-Z_]*|CARGO_SOURCE[A-Z_]*|GOPROXY|GOSUMDB|GONOSUMDB)=' \
  > "$hand/env" || true

# The clone's source: a bundle, so that git in there sees no path of this machine.
if [ -n "$uncommitted" ]; then
  commit=$(cd "$top" && GIT_INDEX_FILE=$work/index git add -A && GIT_INDEX_FILE=$work/index git -c user.name=bare \
    -c user.email=bare@localhost commit-tree -p HEAD -m "the working tree" "$(GIT_INDEX_FILE=$work/index git write-tree)")
else
  commit=$(git -C "$top" rev-parse HEAD)
fi
git -C "$top" tag -f "amphora-bare-$$" "$commit" > /dev/null
git -C "$top" bundle create -q "$hand/amphora.bundle" "amphora-bare-$$"
git -C "$top" tag -d "amphora-bare-$$" > /dev/null

share=()
if [ -z "$cold" ]; then
  mkdir -p "$cache/bare" "$cache/ccache"
  share=("$cache/bare" "$cache/ccache")
fi
export HAND=$hand COMMIT=$commit RUN=$command LAB_CACHE=${share[0]-} LAB_CCACHE=${share[1]-} BARE_JOBS=$jobs TAG=amphora-bare-$$
say "in it: ${cold:+cold: }$command"
begun=$(date +%s)
rc=0
unshare --mount --uts --ipc --pid --fork --kill-child bash "$top/tools/bare-enter.sh" "$work/root" <&0 &
inner=$!
# Who ends us ends what runs in there, too: the root is about to be removed.
trap 'kill -KILL "$inner" 2>/dev/null || true' TERM INT
wait "$inner" || rc=$?
spent=$(($(date +%s) - begun))
say "ended with $rc after $((spent / 60)) min $((spent % 60)) s"
if [ -n "$keep" ]; then say "the root is in $work/root"; fi
exit "$rc"
