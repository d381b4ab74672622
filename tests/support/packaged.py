# SPDX-License-Identifier: Apache-2.0
"""Inside inroot.sh, in a clean root: installs one of the packages of ./dev package and runs the demo from there.
usage: packaged.py deb|archive|install     /mnt/lab/packages has the packages, /mnt/lab/guests the test programs"""

import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

LAB = "/mnt/lab"
BIN = {"deb": "/usr/bin", "archive": "/usr/local/bin", "install": "/opt/containerd/bin"}
kind = sys.argv[1]
os.environ["LAB_BIN"] = BIN[kind]
if kind == "install":
    os.environ["LAB_OPT"] = "1"

from tests.support import lab as L  # noqa: E402
from tools import demo  # noqa: E402


def package(pattern):
    found = glob.glob(f"{LAB}/packages/{pattern}")
    assert len(found) == 1, f"packages {pattern}: {found}"
    return found[0]


def install():
    assert not os.path.exists(BIN[kind] + "/amphora"), "the root is not clean"
    if kind == "deb":
        subprocess.run(["dpkg", "-i", package("*.deb")], check=True)
        return
    if kind == "archive":
        subprocess.run(["tar", "-xzf", package("*.tar.gz"), "-C", "/usr/local"], check=True)
        return
    lab = L.Lab("install").start()
    try:
        lab.ctr("images", "import", package("*install*.tar")).ok()
        name = lab.ctr("images", "ls", "-q").ok().out.split()[0]
        lab.ctr("install", "-l", name).ok()
    finally:
        lab.stop()


def check_removal():
    if kind != "deb":
        return
    files = subprocess.run(["dpkg", "-L", "amphora"], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["dpkg", "-r", "amphora"], check=True)
    left = [f for f in files if os.path.lexists(f) and not os.path.isdir(f)]
    assert not left, f"the package leaves {left}"
    assert not os.path.exists("/usr/lib/amphora"), "the package leaves its directory"


install()
code = 0
try:
    demo.main()
except SystemExit as end:
    code = end.code
if code == 0:
    check_removal()
sys.exit(code)
