#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the guest of tests/vm once and prints its directory: a Debian trixie tree (also the chroot that
# QEMU runs from, as bookworm's QEMU 7.2 corrupts Linux guests under emulation), its kernel unpacked, an
# initrd with nothing but the disk driver, the disk, and the machine's saved state at the point where
# it waits for a job. Kept in the `trees` directory of tools/lib.sh. Progress goes to stderr.
. "$(dirname "$0")/../../tools/lib.sh"
guest=$trees/vm
here=$top/tests/vm
disk=8G
packages=systemd,systemd-sysv,dbus,linux-image-cloud-amd64,containerd,runc,crun,kmod,mount,iproute2,procps,psmisc
packages+=,busybox-static,strace,jq,gawk,bats,uidmap,apparmor,python3-minimal,libpython3-stdlib,binutils
packages+=,qemu-system-x86,qemu-utils,virtiofsd,zstd
# Boot needs none of these, and emulated they cost seconds.
masked=(systemd-udevd systemd-udev-trigger systemd-random-seed systemd-update-utmp systemd-timesyncd
  systemd-remount-fs systemd-tpm2-setup-early systemd-tpm2-setup systemd-pstore systemd-firstboot
  systemd-sysusers ldconfig systemd-journal-flush systemd-machine-id-commit systemd-binfmt
  systemd-journal-catalog-update systemd-update-done networking apparmor)

# The number is raised when what this script does to the tree changes.
key="vm-1 $packages $(content_hash tests/vm/unpack.py tests/vm/job.sh)"
state_key="$key $(content_hash tests/vm/machine.py)"

make_tree() {
  say "making a Debian trixie guest in $guest (about 3 minutes)" >&2
  rm -rf --one-file-system "$guest"
  mkdir -p "$guest"
  logged "mmdebstrap trixie" mmdebstrap --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg trixie "$guest/root" "$(debian_mirror)" >&2
}

settle_tree() {  # what the guest does at boot: as little as possible, then our job
  local root=$guest/root unit
  install -D -m755 "$here/job.sh" "$root/usr/local/sbin/vm-job"
  cat > "$root/etc/systemd/system/vm-job.service" <<'UNIT'
[Unit]
Description=the job given by the host
Requires=basic.target dbus.socket
After=basic.target dbus.socket dbus.service
Wants=dbus.service
[Service]
Type=exec
ExecStartPre=-/sbin/ip link set lo up
ExecStart=/usr/local/sbin/vm-job
StandardOutput=journal+console
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
UNIT
  printf '[Unit]\nDescription=the job\nRequires=basic.target vm-job.service\n' \
    > "$root/etc/systemd/system/vm.target"
  ln -sf vm.target "$root/etc/systemd/system/default.target"
  for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit.service"; done
  ln -sf /dev/null "$root/etc/systemd/system/proc-sys-fs-binfmt_misc.automount"
  rm -f "$root"/etc/systemd/system/*.wants/containerd.service
  mkdir -p "$root"/{vm,share,src} "$root/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/vm.conf"
  printf 'overlay\nbridge\nveth\n' > "$root/etc/modules-load.d/vm.conf"
  : > "$root/etc/fstab"
  echo vm > "$root/etc/hostname"
  printf '127.0.0.1 localhost vm\n' > "$root/etc/hosts"
  echo 00000000000000000000000000000001 > "$root/etc/machine-id"
}

make_disk() {
  rm -rf "$guest"/root/var/cache/apt/* "$guest"/root/var/lib/apt/lists/* "$guest"/root/boot/initrd*
  truncate -s "$disk" "$guest/root.img"
  # From the tree, without mounting anything.
  mke2fs -q -t ext4 -O ^has_journal -E nodiscard -m0 -d "$guest/root" "$guest/root.img" >&2
}

save_state() {  # boots it once; a run resumes from there in a second
  say "booting the guest once and saving it" >&2
  rm -f "$guest"/booted.*
  chroot "$guest/root" qemu-img create -q -f qcow2 /tmp/o.qcow2 "$disk"
  mv "$guest/root/tmp/o.qcow2" "$guest/booted.qcow2"
  VM_MODE=save VM_LIMIT=600 "$here/start.sh" true >&2 || die "the guest does not come up"
}

[ "$(id -u)" = 0 ] || die "making the guest needs root"
if [ "$(cat "$guest/tree.key" 2>/dev/null)" != "$key" ]; then
  make_tree
  python3 "$here/unpack.py" "$guest/root" "$guest" >&2
  settle_tree
  make_disk
  printf '%s' "$key" > "$guest/tree.key"
fi
if [ "$(cat "$guest/state.key" 2>/dev/null)" != "$state_key" ]; then
  VM_GUEST=$guest save_state
  printf '%s' "$state_key" > "$guest/state.key"
fi
echo "$guest"
