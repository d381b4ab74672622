#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs runc's bats files under two runtimes and compares, test by test.

runc_suite.py busybox OUT.tar    the image the tests unpack, made of Debian's static busybox
runc_suite.py run ...            see runc-suite.sh, which calls it

Every file runs in namespaces of its own with its own /run and /tmp; stdin is a pipe that stays open and
never says anything, the terminal is a real one (script), as the suite expects. The peer's outcome is
kept for the same suite, binary and kernel, ours is always new; a test that only ours fails is run once more
before it counts, so that a deadline missed under load is no verdict. With --whole-machine nothing is kept
apart: in a guest that is thrown away afterwards, where systemd must see the processes."""

import argparse
import fcntl
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

# The names runc's tests use at fixed places.
DIRECTORIES = ("bin etc home root usr usr/bin usr/sbin var var/spool var/spool/mail var/www sbin lib "
               "usr/lib").split()
LIMIT = 900  # seconds for one file; the longest takes a minute on a quiet machine
LIMIT_EMULATED = 3000

ENTER = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
  mkdir /run/cg; mount -t tmpfs -o mode=755 cgroup /run/cg
  for h in /sys/fs/cgroup/*; do
    [ -d "$h" ] && [ ! -L "$h" ] && mountpoint -q "$h" || continue
    mkdir "/run/cg/${h##*/}"; mount --bind "$h" "/run/cg/${h##*/}"
  done
  umount -l /sys/fs/cgroup; mount --move /run/cg /sys/fs/cgroup; rmdir /run/cg
fi
mount --make-rshared /
ip link set lo up
cd "$1"
# Not exec: pid 1 is where orphans end, and script would be confused by children it does not know.
script -q -e -c "bats --tap $2.bats" /dev/null && exit 0 || exit $?
"""

WHOLE = r"""
set -eu
cd "$1"
script -q -e -c "bats --tap $2.bats" /dev/null && exit 0 || exit $?
"""

# A test whose teardown did not get that far leaves the suite's recvtty behind, which holds bats' pipe: when no test runs
# any more, it is ended. Decides nothing, so it is no part of the fingerprint.
WATCH = r"""
( while sleep 2; do
    pgrep -f 'bats-exec[-]' > /dev/null && continue
    for f in /tmp/bats-run-*/*/recvtty.pid /tmp/bats-run-*/*/tty/pid; do
      if [ -e "$f" ]; then kill "$(cat "$f")" || true; fi
    done
  done ) > /dev/null 2>&1 &
"""


def busybox(out):
    with tarfile.open(out + ".new", "w") as tar:
        def put(name, body=b"", mode=0o755, kind=tarfile.REGTYPE, link=""):
            info = tarfile.TarInfo("./" + name)
            info.mode, info.type, info.size, info.linkname = mode, kind, len(body), link
            tar.addfile(info, io.BytesIO(body))
        put("", kind=tarfile.DIRTYPE)
        for directory in DIRECTORIES:
            put(directory, kind=tarfile.DIRTYPE)
        put("tmp", mode=0o1777, kind=tarfile.DIRTYPE)
        put("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
            b"nobody:x:65534:65534:nobody:/home:/bin/false\n", 0o644)
        put("etc/group", b"root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n", 0o644)
        with open("/bin/busybox", "rb") as f:
            put("bin/busybox", f.read())
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
        for applet in applets.stdout.split():
            if applet != "busybox":
                put("bin/" + applet, kind=tarfile.LNKTYPE, link="./bin/busybox")
    os.rename(out + ".new", out)


def read_tap(text):
    """{name: (outcome, lines)} of one file's TAP; outcome ok, skip or fail."""
    tests, current = {}, None
    for line in text.replace("\r", "").split("\n"):
        match = re.match(r"(not )?ok \d+ (.*)$", line)
        if match:
            name, _, skip = match.group(2).partition(" # skip")
            name = re.sub(r" in \d+m?s$", "", name).strip()
            current = [("fail" if match.group(1) else "skip" if skip or "# skip" in line else "ok"), []]
            if current[0] == "skip":
                current[1].append(skip.strip())
            tests[name] = current
        elif current is not None and line.startswith("#"):
            current[1].append(line[1:].strip())
    return {name: (outcome, lines) for name, (outcome, lines) in tests.items()}


def run_file(tree, name, runtime, wanted=None, whole=False):
    env = dict(os.environ, RUNC=runtime, TERM="xterm", LC_ALL="C.UTF-8", HOME="/root", USER="root")
    for key in ("XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "LISTEN_FDS"):
        env.pop(key, None)
    enter = WHOLE if whole else ENTER
    if wanted:
        pattern = "|".join("^" + re.sub(r"([][\\.^$*+?(){}|])", r"\\\1", w) + " *$" for w in wanted)
        env["BATS_FILTER"] = pattern
        enter = enter.replace("bats --tap ", 'bats --tap -f \\"\\$BATS_FILTER\\" ')
    idle, keep_open = os.pipe()
    apart = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command = ([] if whole else apart) + ["bash", "-c", WATCH * (not whole) + enter, "enter",
                                          os.path.join(tree, "tests/integration"), name]
    try:
        done = subprocess.run(command, stdin=idle, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=env, timeout=LIMIT_EMULATED if whole else LIMIT, check=False)
        text = done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode("utf-8", "replace")
    finally:
        os.close(idle)
        os.close(keep_open)
    return read_tap(text), text


def fingerprint(tree, runtime):
    digest = hashlib.sha256()
    with open(runtime, "rb") as f:
        digest.update(f.read())
    digest.update(tree.encode() + os.uname().release.encode() + ENTER.encode())
    return digest.hexdigest()[:16]


def load_differences(path, suite):
    """Lines `SUITE-PATTERN FILE: TEST NAME = reason`; # comments."""
    known = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                which, rest = line.strip().split(" ", 1)
                name, reason = rest.split(" = ", 1)
                # The guest's is the newest suite.
                if which in ("all", "newest" if "-guest-" in suite else suite.rsplit("-", 1)[-1]):
                    known[name.strip()] = reason
    return known


def verdict(ours, peer, reason):
    if ours[0] == "skip":
        # Skipped by the suite's own look at the machine; what runc did then is no matter.
        return "skipped", "the suite: " + " ".join(ours[1])[:120]
    if ours[0] == "ok":
        return "passed", ""
    if reason:
        return "skipped", "deliberate difference: " + reason
    if peer[0] == "fail":
        return "passed", "fails with runc too"
    return "failed", " | ".join(ours[1][-12:])[-900:]


def run(options):
    lock = open(os.path.join(options.keep, "lock"), "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)  # fixed container names and cgroups: one suite at a time
    directory = os.path.join(options.tree, "tests/integration")
    names = options.files or sorted(f[:-5] for f in os.listdir(directory) if f.endswith(".bats"))
    known = load_differences(options.differences, options.suite)
    kept_path = os.path.join(options.keep, f"peer-{options.suite}-{fingerprint(options.tree, options.peer)}.json")
    kept = {}
    if os.path.exists(kept_path):
        with open(kept_path, encoding="utf-8") as f:
            kept = json.load(f)
    logs = os.path.join(options.keep, "logs-" + options.suite)
    os.makedirs(logs, exist_ok=True)
    failed, counts = 0, {}
    for name in names:
        if name not in kept:
            kept[name], _ = run_file(options.tree, name, options.peer, None, options.whole_machine)
            with open(kept_path, "w", encoding="utf-8") as f:
                json.dump(kept, f)
        ours, text = run_file(options.tree, name, options.ours, None, options.whole_machine)
        with open(os.path.join(logs, name + ".tap"), "w", encoding="utf-8") as f:
            f.write(text)
        nobody = ("fail", ["no result: the file did not get that far"])
        suspects = [t for t in kept[name] if ours.get(t, nobody)[0] == "fail" and kept[name][t][0] != "fail"
                    and f"{name}: {t}" not in known]
        if suspects and not options.once:
            again, more = run_file(options.tree, name, options.ours, suspects, options.whole_machine)
            ours.update({t: again[t] for t in suspects if t in again})
            with open(os.path.join(logs, name + ".again.tap"), "w", encoding="utf-8") as f:
                f.write(more)
        with open(options.results, "a", encoding="utf-8") as out:
            for test in sorted(set(kept[name]) | set(ours)):
                peer, mine = kept[name].get(test, nobody), ours.get(test, nobody)
                result, why = verdict(mine, peer, known.get(f"{name}: {test}"))
                failed += result == "failed"
                key = (mine[0], peer[0])
                counts[key] = counts.get(key, 0) + 1
                out.write(json.dumps({"suite": options.suite, "case": f"{name}: {test}", "result": result,
                                      "text": why, "ours": mine[0], "runc": peer[0]}) + "\n")
                if result == "failed":
                    print(f"FAIL {options.suite} {name}: {test}", flush=True)
    print(options.suite + ": " + ", ".join(f"ours {o} and runc {p}: {n}" for (o, p), n in sorted(counts.items())),
          flush=True)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("busybox").add_argument("out")
    runner = verbs.add_parser("run")
    for name in ("suite", "tree", "peer", "ours", "differences", "keep", "results"):
        runner.add_argument("--" + name, required=True)
    runner.add_argument("--once", action="store_true")
    runner.add_argument("--whole-machine", action="store_true")
    runner.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.verb == "busybox":
        busybox(options.out)
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
