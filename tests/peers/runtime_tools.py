# SPDX-License-Identifier: Apache-2.0
"""Inside inroot.sh: every validation program of runtime-tools with runc and with amphora. A row passes when
all of a program's checks hold with ours; it is skipped, with the reason, when the program is on the
list beside this file or when runc fails the same checks; it fails when ours fails what runc passes.
usage: runtime_tools.py [WORD...]   only programs whose names contain a word"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

from tests.peers import common  # noqa: E402

LAB = "/mnt/lab"
NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|0x[0-9a-f]+|\b\d{3,}\b")


def known():
    """Program -> why it says nothing."""
    found = {}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runtime-tools.known")
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, reason = line.split(None, 1)
                found[name] = reason.strip()
    return found


def run(program, runtime):
    """The names of the checks that do not hold; a program that ends badly or not at all is one of them."""
    env = dict(os.environ, RUNTIME=runtime, PATH=f"{LAB}/prefix/bin:" + os.environ["PATH"])
    process = subprocess.Popen([f"{LAB}/bin/validation/{program}"], cwd=f"{LAB}/bin", env=env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ended = True
    try:
        out, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        ended = False
        common.end_all()
        out, _ = process.communicate()
    text = out.decode(errors="replace")
    bad = []
    held = set()
    for line in text.splitlines():
        match = re.match(r"\s*(not )?ok \d+ ?-? ?(.*)", line)
        if match and match.group(1):
            bad.append(NAMES.sub("N", match.group(2)) or "a check without a name")
        elif match:
            held.add(NAMES.sub("N", match.group(2)))
    if not ended:
        bad.append("no end within 60 s")
    elif process.returncode != 0 and not bad:
        bad.append(f"exit {process.returncode}")
    elif not bad and not held:
        bad.append("no check was made")
    common.end_all()
    common.drop_cgroups(r"^([0-9a-f]{8}-[0-9a-f-]{27}|cgrouptest|cgroups?test|testing?|runtimetest.*)$")
    return held, bad, text


def main():
    words = sys.argv[1:]
    list_of_known = known()
    rows = common.Rows("runtime-tools", LAB + "/results")
    for program in sorted(os.listdir(LAB + "/bin/validation")):
        if words and not any(w in program for w in words):
            continue
        their_held, theirs, their_text = run(program, "runc")
        held, ours, text = run(program, "amphora")
        # What fails with ours and held with runc; all of it where runc's run was whole. Some programs race with the
        # container (killsig's signal may come before the shell's trap), so what only ours fails is seen again twice.
        for attempt in range(3):
            more = [b for b in ours if b not in theirs and (b in their_held or not theirs)]
            if not more or program in list_of_known or attempt == 2:
                break
            held, ours, text = run(program, "amphora")
        for name, said in (("runc", their_text), ("amphora", text)):
            with open(f"{LAB}/{program}.{name}.log", "w", encoding="utf-8") as f:
                f.write(said)
        if not ours:
            rows.add(program, "passed", f"{len(held)} checks" + (f"; runc fails: {'; '.join(theirs)}"[:200] if theirs else ""))
        elif program in list_of_known:
            rows.add(program, "skipped", f"known: {list_of_known[program]}")
        elif not more:
            rows.add(program, "skipped", f"runc fails too: {'; '.join(theirs)[:200]}; ours: {'; '.join(ours)[:200]}")
        else:
            rows.add(program, "failed", "; ".join(more)[:300] + " | " + " ".join(text.split())[-300:])
    return 0 if rows.good else 1


if __name__ == "__main__":
    common.as_pid1(main)
