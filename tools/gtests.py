#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gtests.py KIND BUILD RESULTS [WORD...]: runs the GoogleTest executables of a kind that CMake
listed, counts their cases one by one into RESULTS."""

import json
import os
import re
import subprocess
import sys
import tempfile


def skip_reasons(output):
    """{case: reason} from what a test program printed; Debian's GoogleTest leaves them out of its report."""
    reasons, lines = {}, []
    for line in output.splitlines():
        m = re.match(r"\[  SKIPPED \] ([^ ,]+)", line)
        if m and lines:
            reasons.setdefault(m[1], " ".join(lines))
        if line.startswith("["):
            lines = []
        elif not re.match(r".*: Skipped$", line) and line.strip():
            lines.append(line.strip())
    return reasons


def rows_of(report, suite, target, reasons):
    for group in report.get("testsuites", []):
        for case in group["testsuite"]:
            text, result = "", "passed"
            if case.get("failures"):
                result = "failed"
                text = "; ".join(f["failure"].replace("\n", " ")[:600] for f in case["failures"])
            elif case["result"] == "SKIPPED":
                result = "skipped"
                text = reasons.get(f"{group['name']}.{case['name']}", "no reason given")
            elif case["status"] == "NOTRUN":
                continue
            yield {"suite": suite, "case": f"{target}:{group['name']}.{case['name']}", "result": result,
                   "text": text, "seconds": float(case["time"].rstrip("s"))}


def main():
    kind, build, results, words = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    bad, count = 0, 0
    listing = build + "/tests-list"
    for target in sorted(os.listdir(listing)) if os.path.isdir(listing) else []:
        with open(f"{listing}/{target}", encoding="utf-8") as f:
            its_kind, path = f.read().split()
        if its_kind != kind:
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            argv = [path, "--gtest_output=json:" + report.name]
            if words:
                argv.append("--gtest_filter=" + ":".join(f"*{w}*" for w in words))
            try:
                r = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300,
                                   check=False, cwd=build)
                output, code = (r.stdout + b"\n" + r.stderr).decode(errors="replace"), r.returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                output, code = str(error), -1
            tail = output[-3000:]
            try:
                rows = list(rows_of(json.load(report), kind, target, skip_reasons(output)))
            except ValueError:
                rows = []
            # A crash or a leak has no case of its own; it is one failure all the same.
            if code != 0 and not any(row["result"] == "failed" for row in rows):
                rows.append({"suite": kind, "case": target, "result": "failed", "seconds": 0,
                             "text": f"ended with {code}: {tail[-900:]}"})
        with open(results, "a", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row) + "\n")
        failed = [row for row in rows if row["result"] == "failed"]
        bad += len(failed)
        count += len(rows)
        print(f"{'FAIL' if failed else 'ok  '} {kind} {target}: {len(rows)} cases", flush=True)
        for row in failed:
            print(f"     {row['case']}: {row['text']}")
    print(f"{kind}: {count} cases")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
