#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# package.sh [DIR]: builds the release and packs it, into DIR (default build/packages): a .deb, a tar archive with usr/local's
# layout, and an image for `ctr install`. The same tree and commit give the same bytes (SOURCE_DATE_EPOCH: the commit's time).
. "$(dirname "$0")/lib.sh"
out=${1:-$top/build/packages}
version=$(sed -n 's/^project(amphora VERSION \([0-9.]*\).*/\1/p' "$top/CMakeLists.txt")
machine=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
"$top/tools/build.sh" >&2
work=$(mktemp -d /var/tmp/amphora-package.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir -p "$out"
umask 022
sorted_tar() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$@"; }
install_to() { DESTDIR=$1 PREFIX=$2 "$top/tools/install.sh" >&2; }

pack_archive() {
  local name=amphora-$version-linux-$machine
  install_to "$work/archive" /
  mkdir -p "$work/archive/share/doc/amphora"
  cp "$top/LICENSE" "$top/README.md" "$work/archive/share/doc/amphora/"
  sorted_tar -C "$work/archive" -cf - --transform 's,^\./,,' . | gzip -9n > "$out/$name.tar.gz"
  echo "$out/$name.tar.gz"
}

pack_deb() {
  local root=$work/deb name=amphora_${version}_$machine.deb
  install_to "$root" /usr
  mkdir -p "$root/DEBIAN" "$root/usr/share/doc/amphora"
  cp "$top/LICENSE" "$root/usr/share/doc/amphora/copyright"
  gzip -9n < "$top/CHANGELOG.md" > "$root/usr/share/doc/amphora/changelog.gz"
  # glibc is what the host of guests and the engines are linked to; everything else is static. LLVM is wanted by
  # one object, where a guest on WAMR asks for machine code: 130 MB that others need not have.
  cat > "$root/DEBIAN/control" <<TEXT
Package: amphora
Version: $version
Architecture: $machine
Maintainer: The amphora authors <amphora@localhost>
Section: admin
Priority: optional
Depends: libc6 (>= 2.36)
Recommends: containerd
Suggests: libllvm19
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Description: container runtime for native and WebAssembly programs
 A containerd shim and a command with runc's interface. Whether a container is
 native or WebAssembly is read from its program's bytes; both kinds share pods,
 namespaces and limits.
TEXT
  (cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum > DEBIAN/md5sums)
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$root" "$out/$name" >&2
  echo "$out/$name"
}

# `ctr install` takes files directly in bin/ and lib/ and no others; the programs find each other there, too.
pack_image() {
  local from=$work/archive root=$work/image name=amphora-$version-install-linux-$machine.tar
  mkdir -p "$root/bin" "$root/lib"
  cp "$from"/libexec/amphora/* "$root/bin/"
  cp -a "$from"/bin/* "$root/bin/"
  cp "$from"/lib/amphora/*.so "$root/lib/"
  "$from/bin/amphora" image build --repo amphora.local --name install --tag "$version" --file "$root:/" --compress gzip \
    --label "org.opencontainers.image.title=amphora" --out-path "$out/$name" >&2
  echo "$out/$name"
}

say "packing amphora $version for $machine into $out" >&2
pack_archive
pack_deb
pack_image
