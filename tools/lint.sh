#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lint.sh [--tidy] [--results FILE]: every rule that a script can check; --tidy adds clang-tidy-19 over
# all sources (minutes). Each rule counts as one case.
. "$(dirname "$0")/lib.sh"
tidy=no
results=
while [ $# -gt 0 ]; do
  case "$1" in
    --tidy) tidy=yes; shift ;;
    --results) results=$2; shift 2 ;;
    *) die "unknown option '$1'" ;;
  esac
done
cd "$top"
status=0
rule() {  # NAME COMMAND...
  local name=$1 out result=passed
  shift
  if ! out=$("$@" 2>&1); then
    result=failed
    status=1
    echo "FAIL lint.$name"
    printf '%s\n' "$out" | head -n 40 | sed 's/^/     /'
  else
    echo "ok   lint.$name"
  fi
  if [ -n "$results" ]; then
    python3 -c 'import json, sys
print(json.dumps({"suite": "lint", "case": sys.argv[1], "result": sys.argv[2], "text": sys.argv[3][:800]}))' \
      "$name" "$result" "$([ "$result" = passed ] || printf '%s' "$out" | tr '\n' ';')" >> "$results"
  fi
}
sources() { git ls-files -co --exclude-standard -- "$@" | while IFS= read -r f; do [ -f "$f" ] && echo "$f"; done; }
# shellcheck disable=SC2046  # names without blanks
format() { clang-format-19 --dry-run -Werror $(sources '*.cc' '*.h' '*.c'); }
shells() {
  local f
  for f in dev .ci/run $(sources '*.sh'); do bash -n "$f" || return 1; done
  if command -v shellcheck >/dev/null; then shellcheck -x -S warning dev .ci/run $(sources '*.sh'); fi
}
pythons() { python3 - $(sources '*.py') <<'PY'
import ast, sys
code = 0
for path in sys.argv[1:]:
    names = [n.name for n in ast.parse(open(path, encoding="utf-8").read(), path).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    for name in sorted({n for n in names if names.count(n) > 1}):  # the first of two tests would never run
        print(f"{path}: {name} is defined twice")
        code = 1
sys.exit(code)
PY
}
run_tidy() {
  local database=$top/build/dev
  [ -e "$database/compile_commands.json" ] || "$top/tools/build.sh" --dev amphora_base
  sources '*.cc' | grep -E '^(executor|detect|native|wasm|shim|content|image)/' |
    xargs -P "$jobs" -n 4 clang-tidy-19 -p "$database" --quiet
}
rule layers python3 tests/lint/layers.py
rule file-headers python3 tests/lint/files.py header
rule file-length python3 tests/lint/files.py length
rule docs-name-files python3 tests/lint/files.py docs
rule no-words-of-this-machine python3 tests/lint/files.py words
rule format format
rule shell shells
rule python pythons
init=$(find build/release build/dev -name libamphora_init.a 2>/dev/null | head -n 1 || true)
if [ -n "$init" ]; then rule child-symbols tests/lint/child_symbols.sh "$init"; fi
if [ -e build/release/executor/cli/amphora ]; then rule linkage tests/lint/linkage.sh build/release; fi
[ "$tidy" = no ] || rule clang-tidy run_tidy
exit "$status"
