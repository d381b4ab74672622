#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# inroot.sh TREE COMMAND...: runs COMMAND as root in namespaces of its own (mount, net, uts, ipc, pid), in
# TREE (another Debian's root, or /), entered by pivot_root: with chroot, joining a container's mount
# namespace would lead back to the host's root. Everything ends with the command.
#   SRC=DIR     seen at /mnt/src (read-only)      LAB=DIR   seen at /mnt/lab
#   CGVIEW=hybrid|v1|v2   the machine's hierarchies; without the unified one (crun needs that); only
#                         a fresh cgroup2 mount. The view is private: nothing litters the host's.
# /run, /tmp, /mnt, /var/lib/amphora and /var/cache/amphora are fresh.
set -eu
export SRC LAB CGVIEW=${CGVIEW-hybrid}
tree=$1
shift
exec unshare --mount --net --uts --ipc --pid --fork --mount-proc --kill-child bash -c '
  set -eu; tree=$1; shift
  mount --make-rprivate /
  root=$tree; [ "$tree" != / ] || root=
  if [ -n "$root" ]; then
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"; mount --rbind /sys "$root/sys"; mount --move /proc "$root/proc"
  fi
  # What is shown from outside is opened before fresh mounts can hide it.
  exec 8< "$SRC" 9< "$LAB"
  mount -t tmpfs -o mode=755 amphora "$root/mnt"
  mkdir "$root/mnt/src" "$root/mnt/lab"
  mount --bind "$root/proc/self/fd/8" "$root/mnt/src"; mount -o remount,bind,ro "$root/mnt/src"
  mount --bind "$root/proc/self/fd/9" "$root/mnt/lab"
  exec 8<&- 9<&-
  for d in lib cache; do
    [ -d "$root/var/$d/amphora" ] || mkdir "$root/var/$d/amphora" 2>/dev/null || true
    mkdir -p "$root/mnt/lab/var-$d"
    mount --bind "$root/mnt/lab/var-$d" "$root/var/$d/amphora"
  done
  mount -t tmpfs -o mode=755 run "$root/run"; mount -t tmpfs -o mode=1777 tmp "$root/tmp"
  if [ -n "$root" ]; then
    mkdir "$root/run/old"; cd "$root"; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old
  fi
  if [ "$CGVIEW" = v2 ]; then
    umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup /sys/fs/cgroup
  elif [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    mkdir /run/cg; mount -t tmpfs -o mode=755 cgroup /run/cg
    for h in /sys/fs/cgroup/*; do
      [ -d "$h" ] && [ ! -L "$h" ] && mountpoint -q "$h" || continue
      [ "$CGVIEW" = v1 ] && [ "${h##*/}" = unified ] && continue
      mkdir "/run/cg/${h##*/}"; mount --bind "$h" "/run/cg/${h##*/}"
    done
    umount -l /sys/fs/cgroup; mount --move /run/cg /sys/fs/cgroup; rmdir /run/cg
  fi
  mount --make-rshared /
  ip link set lo up 2>/dev/null || true
  cd /
  exec "$@"' inroot "$tree" "$@"
