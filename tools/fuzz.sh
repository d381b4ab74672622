#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh [TARGET...] [--seconds N]: builds the fuzzers of tests/fuzz (clang, libFuzzer, ASan, UBSan) in
# build/fuzz and runs those whose name has TARGET in it, two side by side, 60 seconds each. Inputs that break
# one are minimised into build/fuzz/crashes; put them into tests/fuzz/corpus/TARGET with the fix.
. "$(dirname "$0")/lib.sh"
seconds=60
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) [ $# -ge 2 ] || die "--seconds wants a number"; seconds=$2; shift 2 ;;
    --seconds=*) seconds=${1#*=}; shift ;;
    -*) die "unknown option '$1': --seconds N" ;;
    *) targets+=("$1"); shift ;;
  esac
done
[[ $seconds =~ ^[0-9]+$ ]] || die "--seconds wants a number, '$seconds' is none"
"$top/tools/build.sh" --fuzz amphora_fuzzers
exec python3 "$top/tools/fuzz.py" "$top/build/fuzz" --jobs "$jobs" --seconds "$seconds" "${targets[@]}"
