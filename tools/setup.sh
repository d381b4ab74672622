#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Brings a Debian machine to where the tree can be built and tested: packages, Rust, Go if it is
# there. Quick when nothing is to be done.
. "$(dirname "$0")/lib.sh"

packages=(
  g++ make cmake ninja-build pkg-config ccache git python3
  libseccomp-dev libcap-dev protobuf-compiler libprotobuf-dev nlohmann-json3-dev libspdlog-dev
  libfmt-dev libmount-dev libboost1.81-dev libgtest-dev libgmock-dev
  clang-format-19 clang-tidy-19 clang-19 libclang-rt-19-dev llvm-19-dev
  libarchive-dev libnghttp2-dev libzstd-dev zlib1g-dev skopeo umoci
  clang lld wasi-libc libclang-rt-14-dev-wasm32
  containerd runc crun busybox-static strace jq mmdebstrap debian-archive-keyring iproute2 binutils
  procps ca-certificates containernetworking-plugins iptables uidmap curl
)
missing() {  # the packages that dpkg does not call installed
  local known
  known=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2>/dev/null |
    sed -n 's/^ii *//p' || true)
  printf '%s\n' "${packages[@]}" | grep -vxF "$known" || true
}
# At least the version that wasm/engines/wasmtime/Cargo.toml asks for.
rust_needed=1.95
new_enough() { [ "$(printf '%s\n%s\n' "$rust_needed" "$1" | sort -V | head -n 1)" = "$rust_needed" ]; }
rust_version() { "$1" --version 2>/dev/null | awk '{print $2}'; }

command -v dpkg-query >/dev/null || die "set-up knows Debian only; the packages it would install: ${packages[*]}"
want=$(missing)
if [ -n "$want" ]; then
  say "installing $(wc -w <<<"$want") Debian packages: $(tr '\n' ' ' <<<"$want")"
  export DEBIAN_FRONTEND=noninteractive
  logged "apt update" as_root apt-get -qq -o Acquire::Check-Valid-Until=false update
  # The daemon must not start here: tests bring up private ones.
  # shellcheck disable=SC2086
  logged "apt install" as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -y -q install --no-install-recommends $want
fi

if ! new_enough "$(rust_version rustc)" || ! command -v cargo >/dev/null; then
  say "no Rust $rust_needed or newer here: installing Debian's rustc-web and cargo-web"
  logged "apt update" as_root apt-get -qq update
  logged "apt rust" as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -y -q install --no-install-recommends rustc-web cargo-web
  new_enough "$(rust_version rustc)" || die "Debian gave rustc $(rust_version rustc), needed is $rust_needed"
fi
# Test components are built for it; without it their tests are skipped and say so.
if command -v rustup >/dev/null && ! [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ]; then
  say "adding Rust's target wasm32-wasip2 for the test components"
  rustup -q target add wasm32-wasip2 > /dev/null 2>&1 || warn "Rust's target wasm32-wasip2 cannot be had: no test components"
fi
if ! command -v go >/dev/null; then
  say "no Go here: the Go test module is left out (its tests are skipped and say so)"
fi
say "set-up complete: $(g++ --version | head -n 1 | sed 's/.*) //') g++, Rust $(rust_version rustc), containerd $(containerd --version | awk '{print $3}')"
