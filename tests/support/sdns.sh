#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sdns.sh TREE COMMAND...: runs COMMAND under a real systemd of TREE (a Debian root with systemd and dbus),
# which is pid 1 of namespaces of its own: scopes, slices and D-Bus are real and take half a second to come
# up; limits there are none, as v1 owns the controllers of a hybrid host.
#   SRC=DIR   seen at /mnt/src (read-only)      LAB=DIR   seen at /mnt/lab
#   CGVIEW=v2|hybrid   what is at /sys/fs/cgroup: a fresh cgroup2 mount; or a private tmpfs with the machine's
#             v1 hierarchies, bound, systemd itself on the unified one
# Three things are never done: /proc/sys is read-only, because systemd raises fs.nr_open and fs.file-max
# for the whole machine; the host's own tmpfs at /sys/fs/cgroup is never bound in, because systemd makes it
# read-only for everybody; pid 1 has no /dev/console, as it would wait for one that is no terminal.
set -eu
tree=$1
shift
unified=/sys/fs/cgroup
[ "$(stat -f -c %T "$unified")" = cgroup2fs ] || unified=/sys/fs/cgroup/unified
[ "$(stat -f -c %T "$unified" 2>/dev/null)" = cgroup2fs ] || { echo "sdns: no cgroup2 mount here" >&2; exit 125; }
cg=$unified/amphora-sdns-$$
log=$(mktemp)
up='' inner=''
finish() {
  echo $$ > "$unified/cgroup.procs" 2>/dev/null || true
  [ -z "$inner" ] || kill -9 "$inner" 2>/dev/null || true
  [ -z "$up" ] || wait "$up" 2>/dev/null || true
  echo 1 > "$cg/cgroup.kill" 2>/dev/null || true
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    find "$cg" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -d "$cg" ] || break
    sleep 0.1
  done
  rm -f "$log"
}
mkdir "$cg"
trap finish EXIT
export tree SRC LAB CGVIEW=${CGVIEW-v2}
(
  echo $BASHPID > "$cg/cgroup.procs"
  exec unshare --mount --net --uts --ipc --cgroup --pid --fork --kill-child bash -c '
    set -eu
    mount --make-rprivate /
    exec 8< "$SRC" 9< "$LAB"
    n=/mnt; mount -t tmpfs -o mode=755 amphora $n; mkdir $n/u $n/w $n/r; r=$n/r
    mount -t overlay o -o "lowerdir=$tree,upperdir=$n/u,workdir=$n/w" $r
    mkdir -p $r/mnt/src $r/mnt/lab $r/var/lib/amphora $r/var/cache/amphora
    mount --bind /proc/self/fd/8 $r/mnt/src; mount -o remount,bind,ro $r/mnt/src
    mount --bind /proc/self/fd/9 $r/mnt/lab
    exec 8<&- 9<&-
    for d in lib cache; do mkdir -p $r/mnt/lab/var-$d; mount --bind $r/mnt/lab/var-$d $r/var/$d/amphora; done
    units=$r/etc/systemd/system
    mkdir -p $units/basic.target.wants
    ln -sfn /lib/systemd/system/basic.target $units/default.target
    printf "[Unit]\nAfter=basic.target\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh -c \"echo up > /run/sdns.ready\"\n" > $units/sdns.service
    ln -s ../sdns.service $units/basic.target.wants/
    for u in systemd-remount-fs systemd-sysctl systemd-modules-load systemd-tmpfiles-setup-dev systemd-udevd \
      systemd-timesyncd systemd-networkd systemd-journal-flush; do ln -sfn /dev/null $units/$u.service; done
    mount -t tmpfs -o mode=755 dev $r/dev
    for d in null zero full random urandom tty fuse; do
      [ -e /dev/$d ] || continue
      touch $r/dev/$d; mount --bind /dev/$d $r/dev/$d
    done
    mkdir $r/dev/pts $r/dev/shm; mount -t devpts -o newinstance,ptmxmode=0666 d $r/dev/pts
    ln -s pts/ptmx $r/dev/ptmx; mount -t tmpfs shm $r/dev/shm
    ln -s /proc/self/fd $r/dev/fd
    mount -t proc p $r/proc; mount --bind $r/proc/sys $r/proc/sys; mount -o remount,bind,ro $r/proc/sys
    mount -t sysfs -o ro s $r/sys
    if [ "$CGVIEW" = v2 ]; then mount -t cgroup2 c $r/sys/fs/cgroup
    else
      mount -t tmpfs -o mode=755 cgroup $r/sys/fs/cgroup
      for h in /sys/fs/cgroup/*; do
        [ -d "$h" ] && [ ! -L "$h" ] && mountpoint -q "$h" || continue
        case "${h##*/}" in unified|systemd) continue ;; esac
        mkdir "$r/sys/fs/cgroup/${h##*/}"; mount --bind "$h" "$r/sys/fs/cgroup/${h##*/}"
      done
      mkdir $r/sys/fs/cgroup/unified; mount -t cgroup2 c $r/sys/fs/cgroup/unified
    fi
    mount -t tmpfs -o mode=755 run $r/run; mount -t tmpfs -o mode=1777 tmp $r/tmp
    mkdir $r/run/old; cd $r; pivot_root . run/old; umount -l run/old; mount --make-rshared /
    ip link set lo up 2>/dev/null || true
    exec env -i container=sdns PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
      --log-target=journal --show-status=0
  '
) > "$log" 2>&1 < /dev/null &
up=$!
for i in $(seq 400); do
  inner=$(pgrep -P "$up" | head -n 1) || true
  [ -n "$inner" ] && [ -e "/proc/$inner/root/run/sdns.ready" ] && break
  kill -0 "$up" 2>/dev/null || { cat "$log" >&2; exit 125; }
  [ "$i" -lt 400 ] || { echo "sdns: systemd is not up within 20 s" >&2; cat "$log" >&2; exit 125; }
  sleep 0.05
done
echo $$ > "$cg/system.slice/cgroup.procs"
code=0
nsenter -t "$inner" -a -r -w env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  SUITE_NAME="${SUITE_NAME-}" LAB_NAME="${LAB_NAME-}" LAB_COMMANDS="${LAB_COMMANDS-runc amphora}" "$@" < /dev/null || code=$?
exit "$code"
