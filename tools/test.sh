#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh [SUITE...] [-k WORD]...: builds what the suites need, runs them, ends with one count.
# Suites: lint, unit and golden (ASan + UBSan build), fuzz (corpora and ten seconds each), root, cli (the command; cli-v2: in a cgroup2
# view), systemd (sid's, as pid 1 of namespaces), shim (this Debian's containerd), shim2 (2.x of sid),
# cri (pods through both, a minute of tests/cri; all of it is ./dev peers cri), package (./dev package's files, each in a clean root). Only when named: soak (./dev soak).
# docs/testing.md has the budgets.
. "$(dirname "$0")/lib.sh"
suites=()
words=()
while [ $# -gt 0 ]; do
  case "$1" in
    -k) words+=("$2"); shift 2 ;;
    lint|unit|golden|fuzz|root|cli|cli-v2|systemd|shim|shim2|cri|package|soak) suites+=("$1"); shift ;;
    *) die "unknown suite '$1'" ;;
  esac
done
[ ${#suites[@]} -gt 0 ] || suites=(lint unit golden fuzz root cli cli-v2 systemd shim shim2 cri package)
wants() { local s; for s in "${suites[@]}"; do [ "$s" = "$1" ] && return 0; done; return 1; }

"$top/tools/setup.sh"
export AMPHORA_SETUP_DONE=1
work=$(mktemp -d /var/tmp/amphora-test.XXXXXX)
results=$work/results
: > "$results"
trap 'rm -rf --one-file-system "$work"' EXIT
skip_suite() { python3 "$top/tools/count.py" --skip "$1" "$2" "$results"; }

prepare_lab() {  # NAME: a lab directory with an installed tree and the guests
  local lab=$work/$1
  [ -d "$work/prefix" ] || DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
  mkdir -p "$lab"
  cp -a "$work/prefix" "$lab/prefix"
  cp -a "$top/build/guests" "$lab/guests"
}
lab_suite() {  # SUITE PACKAGE TREE CGVIEW [ENTER]: ENTER is the script that makes the namespaces
  if [ "$(id -u)" != 0 ]; then skip_suite "$1" "needs root"; return; fi
  say "$1 tests"
  prepare_lab "$1"
  # The lab's name is in every cgroup path: two runs side by side do not meet.
  SRC=$top LAB=$work/$1 CGVIEW=$4 SUITE_NAME=$1 LAB_NAME=$1-$$ \
    "$top/tests/support/${5-inroot.sh}" "$3" python3 /mnt/src/tests/support/main.py "$2" \
    /mnt/lab/results "${words[@]}" || echo "$1: not all passed"
  if [ -s "$work/$1/results" ]; then cat "$work/$1/results" >> "$results"
  else python3 "$top/tools/count.py" --fail "$1" "the suite did not come up" "$results"; fi
  if [ -n "${AMPHORA_KEEP_LOGS-}" ]; then cp "$work/$1/containerd.log" "$AMPHORA_KEEP_LOGS/$1.log"; fi
  rm -rf --one-file-system "${work:?}/$1"
}

cri_smoke() {  # a mixed pod and its like, through CRI of both containerds
  if [ "$(id -u)" != 0 ]; then skip_suite cri "needs root"; return; fi
  if ! command -v go > /dev/null; then skip_suite cri "no Go toolchain: the program is built on kubelet's own modules"; return; fi
  if [ ! -x /usr/lib/cni/bridge ] || ! command -v iptables > /dev/null; then
    skip_suite cri "no network plugins: the package containernetworking-plugins is not installed"
    return
  fi
  say "cri tests"
  [ -d "$work/prefix" ] || DESTDIR=$work/prefix PREFIX=/ "$top/tools/install.sh" > /dev/null
  local tree which flags=(-smoke)
  [ ${#words[@]} -eq 0 ] || flags+=(-words "$(IFS=,; echo "${words[*]}")")
  for which in cri-1.6 cri-2; do
    tree=/
    if [ "$which" = cri-2 ] && ! tree=$("$top/tools/sid-tree.sh" cri); then
      python3 "$top/tools/count.py" --fail cri-2 "the sid tree could not be made" "$results"
      continue
    fi
    TOP=$top PREFIX_DIR=$work/prefix GUESTS=$top/build/guests WORK=$work "$top/tests/cri/run.sh" "$which" "$tree" "$results" "${flags[@]}" ||
      python3 "$top/tools/count.py" --fail "$which" "not all passed, or it did not come up" "$results"
  done
}

packages() {  # each is installed in a root that has never seen us, and the demo runs from there
  if [ "$(id -u)" != 0 ]; then skip_suite package "needs root"; return; fi
  local tree kind dir=$work/package
  say "package tests"
  if ! tree=$("$top/tools/sid-tree.sh"); then
    python3 "$top/tools/count.py" --fail package "the sid tree could not be made" "$results"
    return
  fi
  mkdir -p "$dir"
  if ! "$top/tools/package.sh" "$dir/packages" > "$dir/log" 2>&1; then
    python3 "$top/tools/count.py" --fail package "$(tail -n 5 "$dir/log" | tr '\n' ';')" "$results"
    return
  fi
  for kind in deb archive install; do
    mkdir -p "$dir/$kind/lab" "$dir/$kind/upper" "$dir/$kind/work" "$dir/$kind/root"
    cp -a "$dir/packages" "$top/build/guests" "$dir/$kind/lab/"
    TREE=$tree SRC=$top LAB=$dir/$kind/lab LAB_NAME=package-$$ unshare --mount bash -c '
      set -e; mount -t overlay clean -o "lowerdir=$TREE,upperdir=$1/upper,workdir=$1/work" "$1/root"
      exec "$SRC/tests/support/inroot.sh" "$1/root" python3 /mnt/src/tests/support/packaged.py "$2"' package "$dir/$kind" "$kind" \
      > "$dir/$kind/log" 2>&1 && rc=0 || rc=$?
    if [ "$rc" = 0 ] && grep -q "nothing is left" "$dir/$kind/log"; then
      echo "ok   package.$kind"
      echo "{\"suite\": \"package\", \"case\": \"$kind\", \"result\": \"passed\", \"text\": \"\"}" >> "$results"
    else
      echo "FAIL package.$kind"
      tail -n 30 "$dir/$kind/log"
      python3 "$top/tools/count.py" --fail "package $kind" "$(tail -n 3 "$dir/$kind/log" | tr '\n' ';')" "$results"
    fi
  done
}

# A build that fails is a failed case, and the run still ends with its count.
built() {  # WHAT [OPTION...]
  local what=$1
  shift
  "$top/tools/build.sh" "$@" || {
    python3 "$top/tools/count.py" --fail build "the $what build fails" "$results"
    python3 "$top/tools/count.py" "$results"
    exit 1
  }
}
if wants unit || wants golden; then
  built dev --dev amphora_tests
fi
if wants fuzz; then
  built fuzz --fuzz amphora_fuzzers
fi
if wants root || wants cli || wants cli-v2 || wants systemd || wants shim || wants shim2 || wants cri || wants package || wants soak || wants lint; then
  built release
fi
for suite in "${suites[@]}"; do
  case "$suite" in
    lint) say "lint"; "$top/tools/lint.sh" --results "$results" || true ;;
    unit|golden)
      say "$suite tests"
      python3 "$top/tools/gtests.py" "$suite" "$top/build/dev" "$results" "${words[@]}" || true ;;
    fuzz)
      say "fuzz: every corpus, then ten seconds of each target"
      python3 "$top/tools/fuzz.py" "$top/build/fuzz" --results "$results" --seconds 10 "${words[@]}" || true ;;
    root)
      if [ "$(id -u)" != 0 ]; then skip_suite root "needs root"; continue; fi
      say "root tests"
      if ! "$top/tools/build.sh" --release amphora_tests > /dev/null; then
        python3 "$top/tools/count.py" --fail root "the root tests do not build" "$results"
        continue
      fi
      mkdir -p "$work/root"
      SRC=$top LAB=$work/root "$top/tests/support/inroot.sh" / \
        python3 "$top/tools/gtests.py" root "$top/build/release" /mnt/lab/results "${words[@]}" || true
      if [ -e "$work/root/results" ]; then cat "$work/root/results" >> "$results"; fi ;;
    cli) lab_suite cli cli / hybrid ;;
    cli-v2) lab_suite cli-v2 cli / v2 ;;
    systemd)
      if [ "$(id -u)" != 0 ]; then skip_suite systemd "needs root"; continue; fi
      if tree=$("$top/tools/sid-tree.sh"); then lab_suite systemd systemd "$tree" v2 sdns.sh
      else python3 "$top/tools/count.py" --fail systemd "the sid tree could not be made" "$results"; fi ;;
    shim) lab_suite shim shim / hybrid ;;
    soak) lab_suite soak soak "${SOAK_TREE-/}" hybrid ;;
    shim2)
      if [ "$(id -u)" != 0 ]; then skip_suite shim2 "needs root"; continue; fi
      if tree=$("$top/tools/sid-tree.sh"); then lab_suite shim2 shim "$tree" hybrid
      else python3 "$top/tools/count.py" --fail shim2 "the sid tree could not be made" "$results"; fi ;;
    cri) cri_smoke ;;
    package) packages ;;
  esac
done
rmdir /var/lib/amphora /var/cache/amphora 2>/dev/null || true
say "done"
python3 "$top/tools/count.py" "$results"
