# SPDX-License-Identifier: Apache-2.0
"""What the gates share inside inroot.sh: rows of results, pid 1's duties, clearing away what a peer left.
Not here: what is compared (one module a gate)."""

import json
import os
import re
import signal
import sys
import time
import traceback

from tests.support.main import reap_for


class Rows:
    """Appends {suite, case, result, text} lines, and shows them."""

    def __init__(self, suite, path):
        self.suite, self.path, self.good = suite, path, True
        open(path, "a", encoding="utf-8").close()

    def add(self, case, result, text=""):
        self.good = self.good and result != "failed"
        word = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}[result]
        print(f"{word} {self.suite}.{case}" + (": " + text if text else ""), flush=True)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"suite": self.suite, "case": case, "result": result, "text": text}) + "\n")


def as_pid1(main):
    """Runs main in a child and reaps orphans until it ends; its value is the exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        # What started the gate may ignore some (nohup); engines would pass that on, now and then.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        try:
            code = main()
        except BaseException:  # pid 1 must hear of the end in any case
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(reap_for(child))


def end_all(spare=()):
    """Ends every process of this pid namespace but pid 1, the caller, its parents and `spare`."""
    keep = {1, os.getpid(), *spare}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in keep:
            try:
                os.kill(int(entry), signal.SIGKILL)
            except ProcessLookupError:
                pass
    time.sleep(0.05)


def drop_cgroups(pattern):
    """Removes the cgroups at the hierarchies' roots whose names match, with what is below them."""
    top = "/sys/fs/cgroup"
    roots = [top] + [f"{top}/{h}" for h in os.listdir(top)]
    for root in roots:
        if not os.path.isdir(root):
            continue
        for name in os.listdir(root):
            if not re.match(pattern, name):
                continue
            for path, _, _ in os.walk(f"{root}/{name}", topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    pass
