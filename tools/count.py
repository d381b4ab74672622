#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""count.py RESULTS: prints each failure and each skip with its reason, then one line
`N passed, N failed, N skipped`; where two runtimes are compared also what fails under both of them, if
anything does. Exit code 1 when something failed or nothing passed.
count.py --skip|--fail SUITE REASON RESULTS: records one outcome for a whole suite."""

import json
import sys

BOTH = "fails under both"


def main():
    if sys.argv[1] in ("--skip", "--fail"):
        _, kind, suite, reason, path = sys.argv
        with open(path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"suite": suite, "case": "suite", "text": reason,
                                "result": kind[2:] + ("ped" if kind == "--skip" else "ed")}) + "\n")
        return 0
    counts = {"passed": 0, "failed": 0, "skipped": 0, BOTH: 0}
    shown = {"failed": [], "skipped": [], BOTH: []}
    with open(sys.argv[1], encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            counts[row["result"]] += 1
            if row["result"] in shown:
                shown[row["result"]].append(f"{row['suite']}.{row['case']}: {row['text']}")
    for kind in ("skipped", BOTH, "failed"):
        for text in shown[kind]:
            print(f"{kind}: {text}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped" +
          (f", {counts[BOTH]} {BOTH}" if counts[BOTH] else ""))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
