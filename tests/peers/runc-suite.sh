#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gate runc-suite: runc's own integration tests (bats), in two versions: the one of Debian's source
# package beside Debian's runc, and the newest Go module's beside a runc built from that same module. A
# test that only ours fails is a failure; deliberate differences stand in runc-suite.differences.
# Nothing of runc's is kept in the tree: sources, helper programs and images live in $KEEP.
# Then what the newest one asks of cgroups in a guest of tests/vm (pure cgroup v2, systemd), with both drivers.
#   RUNC_SUITE_ONLY="debian newest guest"   which of them     RUNC_SUITE_FILES="exec cgroups"   which files
#   RUNC_SUITE_ONCE=1   without running suspects again
. "$TOP/tools/lib.sh"
export AMPHORA_SETUP_DONE=1
here=$TOP/tests/peers
newest=${RUNC_SUITE_VERSION:-v1.5.2}

if ! command -v go > /dev/null; then
  python3 "$TOP/tools/count.py" --skip runc-suite "no go command here: it builds the suite's helper programs" "$RESULTS"
  exit 0
fi
packages=(bats gawk jq iproute2 uidmap gcc libc6-dev libseccomp-dev pkg-config bsdutils dpkg-dev mmdebstrap)
want=$(printf '%s\n' "${packages[@]}" | grep -vxF "$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2>/dev/null | sed -n 's/^ii *//p')" || true)
if [ -n "$want" ]; then
  logged "apt update" as_root apt-get -qq update
  # shellcheck disable=SC2086
  logged "apt runc-suite" as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends $want
fi

debian_source() {  # the source package that belongs to the installed runc, by the machine's own apt sources
  local apt=$KEEP/apt f
  rm -rf "$apt"; mkdir -p "$apt/lists/partial" "$apt/parts" "$apt/source"
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -e "$f" ] && { sed 's/^Types:.*/Types: deb-src/' "$f"; echo; } >> "$apt/parts/src.sources"
  done
  [ -e /etc/apt/sources.list ] && sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$apt/parts/src.list"
  local options=(-q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$apt/parts" -o "Dir::State::Lists=$apt/lists"
    -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o "Acquire::Check-Valid-Until=false" -o "APT::Sandbox::User=root")
  apt-get "${options[@]}" update
  (cd "$apt/source" && apt-get "${options[@]}" source --download-only "runc=$1" && dpkg-source --no-check -x ./*.dsc "$2.new")
  mv "$2.new" "$2"
}

debian_suite() {
  local version tree
  version=$(dpkg-query -W -f '${source:Version}' runc) || return 1
  tree=$KEEP/debian-$version
  [ -d "$tree" ] || logged "source package of runc" debian_source "$version" "$tree" || return 1
  if [ ! -e "$tree/.built" ]; then
    local p
    for p in recvtty sd-helper seccompagent; do
      (cd "$tree" && logged "runc's $p" go build -mod=mod -tags seccomp -o "contrib/cmd/$p/$p" "./contrib/cmd/$p") || return 1
    done
    touch "$tree/.built"
  fi
  echo "$tree"
}

newest_suite() {
  local tree=$KEEP/newest-$newest dir
  if [ ! -e "$tree/.built" ]; then
    dir=$(cd "$WORK" && go mod download -json "github.com/opencontainers/runc@$newest" | jq -r .Dir) && [ -d "$dir" ] || return 1
    rm -rf "$tree"; cp -r "$dir" "$tree"; chmod -R u+w "$tree"; chmod +x "$tree"/tests/integration/*.sh; mkdir -p "$tree/tests/cmd/_bin"
    (cd "$tree" && logged "runc $newest" go build -mod=mod -tags seccomp -o runc . &&
      logged "helpers of runc $newest" go build -mod=mod -tags seccomp -o tests/cmd/_bin ./tests/cmd/...) || return 1
    touch "$tree/.built"
  fi
  echo "$tree"
}

images() {  # into testdata of TREE, under the names that its downloader would have used
  local data=$1/tests/integration/testdata arch
  arch=$(go env GOARCH)
  [ -e "$KEEP/busybox.tar" ] || python3 "$here/runc_suite.py" busybox "$KEEP/busybox.tar"
  if [ ! -e "$KEEP/debian.tar" ]; then
    local mirror
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)
    logged "mmdebstrap for the suite" mmdebstrap --format=tar --variant=essential --include=bash,coreutils,util-linux \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
      --dpkgopt='path-exclude=/usr/share/zoneinfo/*' --dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
      --aptopt='Acquire::Check-Valid-Until "false"' --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
      "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$KEEP/debian.tar.new" "$mirror"
    mv "$KEEP/debian.tar.new" "$KEEP/debian.tar"
  fi
  # tar goes by content, not by name: unpacking anew for every test costs least without compression.
  ln -sf "$KEEP/busybox.tar" "$data/busybox-$arch.tar.xz"
  ln -sf "$KEEP/debian.tar" "$data/debian-$arch.tar.xz"
}

# The files that have to do with cgroups, in the guest, once by the files and once by systemd. In there everything lies on
# the guest's own disk; the go command is asked for nothing but the processor's name.
guest_suite() {
  local tree=$1 driver code=0 job=$WORK/job
  rm -rf "$job"; mkdir -p "$job/suite/tests/cmd" "$job/bin" "$job/keep"
  cp -a "$tree/runc" "$job/suite/"
  cp -aL "$tree/tests/integration" "$job/suite/tests/"
  cp -a "$tree/tests/cmd/_bin" "$job/suite/tests/cmd/"
  cp "$KEEP"/peer-runc-suite-guest-*.json "$job/keep/" 2>/dev/null || true
  printf '#!/bin/sh\necho %s\n' "$(go env GOARCH)" > "$job/bin/go"
  cat > "$job/run" <<'SCRIPT'
set -u
lab=$PWD/job
export PATH=$lab/bin:$PATH
ln -sfn "$PWD/prefix/bin/amphora" "$lab/bin/ours-runc"
[ "$1" = systemd ] && export RUNC_USE_SYSTEMD=1
python3 /mnt/src/tests/peers/runc_suite.py run --whole-machine --suite "runc-suite-guest-$1" --tree "$lab/suite" --peer "$lab/suite/runc" \
  --ours "$lab/bin/ours-runc" --differences /mnt/src/tests/peers/runc-suite.differences --keep "$lab/keep" --results "$lab/results" -- ${2-}
code=$?
cp -r "$lab/keep" "$lab/results" /share/
exit $code
SCRIPT
  chmod +x "$job/bin/go"
  for driver in files systemd; do
    say "the guest's part by $driver: an hour at most"
    (cd "$WORK" && rm -rf share && "$TOP/tests/vm/run.sh" -t 5400 -a "$job" -- bash job/run "$driver" \
      "${RUNC_SUITE_FILES:-cgroups cgroup_delegation delete dev events exec kill pause ps run update cpu_affinity}") || code=1
    if [ -s "$WORK/share/results" ]; then
      cat "$WORK/share/results" >> "$RESULTS"
      cp -r "$WORK/share/keep/." "$KEEP/"
    else
      python3 "$TOP/tools/count.py" --fail "runc-suite-guest-$driver" "the suite did not come up" "$RESULTS"
      code=1
    fi
  done
  return $code
}

mkdir -p "$WORK/ours"
ln -sfn "$PREFIX_DIR/bin/amphora" "$WORK/ours/runc"
status=0
for which in ${RUNC_SUITE_ONLY:-debian newest guest}; do
  case $which in
    debian) peer=$(command -v runc); tree=$(debian_suite | tail -n 1) ;;
    newest|guest) tree=$(newest_suite | tail -n 1); peer=$tree/runc ;;
    *) die "RUNC_SUITE_ONLY knows debian, newest and guest, not $which" ;;
  esac
  if [ ! -d "$tree" ]; then
    python3 "$TOP/tools/count.py" --fail "runc-suite-$which" "the suite could not be got or built" "$RESULTS"
    status=1
    continue
  fi
  images "$tree"
  if [ "$which" = guest ]; then guest_suite "$tree" || status=1; continue; fi
  # shellcheck disable=SC2086
  python3 "$here/runc_suite.py" run --suite "runc-suite-$which" --tree "$tree" --peer "$peer" --ours "$WORK/ours/runc" \
    --differences "$here/runc-suite.differences" --keep "$KEEP" --results "$RESULTS" ${RUNC_SUITE_ONCE:+--once} -- ${RUNC_SUITE_FILES-} || status=1
done
exit $status
