# SPDX-License-Identifier: Apache-2.0
"""Runs inside inroot.sh as pid 1: brings up the lab, runs one suite, counts.
usage: main.py SUITE RESULTS [WORD...]     SUITE: a package of tests/; one that names a LAB class of its own
gets that instead of a containerd."""

import importlib
import os
import pkgutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

from tests.support import lab as lab_module  # noqa: E402
from tests.support import runner  # noqa: E402


def reap_for(child):
    """pid 1's duty: orphans are reaped until our own child ends."""
    code = 1
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def suite(name, results, words):
    package = importlib.import_module("tests." + name)
    modules = [importlib.import_module(f"tests.{name}.{m.name}")
               for m in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name)
               if m.name.startswith("t_")]
    shown = os.environ.get("SUITE_NAME", name)
    lab = getattr(package, "LAB", lab_module.Lab)(os.environ.get("LAB_NAME", "lab"))
    lab.start()
    lab.load_images()
    try:
        return runner.run(shown, modules, lab, words, results)
    finally:
        lab.stop()


def main():
    child = os.fork()
    if child == 0:
        # What nohup or a background job made us ignore would be seen in containers, and compared.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for ignored in (signal.SIGHUP, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_DFL)
        good = False
        try:
            good = suite(sys.argv[1], sys.argv[2], sys.argv[3:])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            if sys.exc_info()[0] is not None:
                import traceback
                traceback.print_exc()
                if os.path.exists(lab_module.LAB + "/containerd.log"):
                    with open(lab_module.LAB + "/containerd.log", encoding="utf-8",
                              errors="replace") as f:
                        sys.stderr.write(f.read()[-2000:])
            os._exit(0 if good else 1)
    sys.exit(reap_for(child))


if __name__ == "__main__":
    main()
