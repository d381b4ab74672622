#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bare-enter.sh ROOT: the inside of bare.sh, in fresh mount, UTS, IPC and pid namespaces: builds /dev, /proc, /sys
# and a private view of the cgroup mounts around ROOT, hands in what the registries need, enters by
# pivot_root, clones the project and runs $RUN. Not for use by hand.
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for d in null zero full random urandom tty fuse loop-control net/tun kvm; do
  [ -e "/dev/$d" ] || continue
  mkdir -p "$(dirname "$root/dev/$d")"
  touch "$root/dev/$d"
  mount --bind "/dev/$d" "$root/dev/$d"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
ln -s pts/ptmx "$root/dev/ptmx"
for l in "fd /proc/self/fd" "stdin /proc/self/fd/0" "stdout /proc/self/fd/1" "stderr /proc/self/fd/2"; do
  ln -s "${l#* }" "$root/dev/${l%% *}"
done
mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
  for h in /sys/fs/cgroup/*; do
    if [ -L "$h" ]; then cp -a "$h" "$root/sys/fs/cgroup/"; continue; fi
    mountpoint -q "$h" || continue
    mkdir "$root/sys/fs/cgroup/${h##*/}"
    mount --bind "$h" "$root/sys/fs/cgroup/${h##*/}"
  done
fi

mkdir "$root/run/machine" "$root/run/old"
mount --bind "$HAND" "$root/run/machine"
mount -o remount,bind,ro "$root/run/machine"
show() {  # FILE TARGET: FILE, read-only, at TARGET of the tree, whose own one stays below
  [ -e "$1" ] || return 0
  [ -e "$root$2" ] || touch "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
}
show /etc/resolv.conf /etc/resolv.conf
show /etc/hosts /etc/hosts
rm -f "$root/etc/apt/sources.list"
show "$HAND/apt-lists" /etc/apt/sources.list.d
show "$HAND/apt.conf" /etc/apt/apt.conf.d/99machine
show /etc/apt/auth.conf.d /etc/apt/auth.conf.d
if [ -n "$LAB_CACHE" ]; then
  mkdir -p "$root/root/.cache/amphora"
  mount --bind "$LAB_CACHE" "$root/root/.cache/amphora"
  mkdir -p "$root/root/.cache/amphora/ccache"
  mount --bind "$LAB_CCACHE" "$root/root/.cache/amphora/ccache"
fi
hostname bare
cd "$root"
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
mount --make-rshared /

vars=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}"
  CARGO_HTTP_CAINFO=/run/machine/ca.crt SSL_CERT_FILE=/run/machine/ca.crt AMPHORA_JOBS="$BARE_JOBS")
while IFS= read -r line; do vars+=("$line"); done < /run/machine/env
if [ -n "$(ls -A /run/machine/cargo)" ]; then
  mkdir -p /root/.cargo
  for f in /run/machine/cargo/*; do ln -sf "$f" /root/.cargo/; done
fi
# pid 1 must not be the command itself: orphans are reaped by the shell that waits.
env -i "${vars[@]}" bash -eu -c '
  cd /root
  git clone -q --branch "$1" /run/machine/amphora.bundle amphora
  cd amphora
  bash -c "$2"
' bare "$TAG" "$RUN"
