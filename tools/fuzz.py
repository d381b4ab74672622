#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fuzz.py BUILD [--seconds N] [--jobs N] [--results FILE] [TARGET...]: replays the corpus of every
target that CMake listed in BUILD/fuzz-list, then fuzzes each; TARGETs are parts of names. What breaks one is
minimised and kept as BUILD/crashes/TARGET-WHAT-HASH. With --results each target is one counted case and
nothing that was found on the way is kept; without, new inputs go on from BUILD/corpus/TARGET next time."""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/fuzz/corpus")
# A tenth of a second is long for one input; a machine under load is ten times slower.
ONE_INPUT = 20
MINIMISE = 20
ENV = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:allocator_may_return_null=1",
           UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
           ASAN_SYMBOLIZER_PATH=shutil.which("llvm-symbolizer-19") or shutil.which("llvm-symbolizer") or "")


def run(argv, timeout):
    try:
        r = subprocess.run(argv, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=timeout, check=False)
        return r.returncode, r.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        return -1, (error.stdout or b"").decode(errors="replace") + f"\nstill running after {timeout} s"


def what_broke(output):
    """One line for people: the check, the sanitizer's words, or libFuzzer's."""
    for pattern in (r".*check failed.*", r".*runtime error: .*", r"SUMMARY: .*", r".*ERROR: libFuzzer: .*"):
        found = re.search(pattern, output)
        if found:
            return re.sub(r"^==\d+== *", "", found[0].strip())[:300]
    return output.strip().split("\n")[-1][:300]


def slug(text):
    """"heap-buffer-overflow passwd.cc:21" of a sanitizer's summary, in letters for a file's name."""
    kind = next((word for word in ("check failed", "runtime error") if word in text), None)
    if kind is None:
        kind = re.sub(r".*?(?:Sanitizer|libFuzzer): ?", "", text).split(" /")[0]
    where = re.search(r"([\w.]+\.(?:cc|h)):(\d+)", text)
    words = re.sub(r"\S*/\S*", "", kind) + (f" {where[1]} {where[2]}" if where else "")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:60].strip("-")


def minimised(exe, crashes, name, path, why):
    """A smaller input that breaks the target as well, under a name that says how."""
    with tempfile.TemporaryDirectory(prefix="amphora-fuzz.") as work:
        small = os.path.join(work, "small")
        run([exe, "-minimize_crash=1", f"-max_total_time={MINIMISE}", f"-timeout={ONE_INPUT}",
             f"-exact_artifact_path={small}", path], MINIMISE * 3)
        best = small if os.path.exists(small) else path
        with open(best, "rb") as f:
            data = f.read()
    final = os.path.join(crashes, f"{name}-{slug(why)}-{hashlib.sha256(data).hexdigest()[:8]}")
    with open(final, "wb") as f:
        f.write(data)
    if os.path.exists(path) and os.path.realpath(path) != os.path.realpath(final):
        os.unlink(path)
    return final


def replay(exe, name):
    """(error or None, how many files)"""
    folder = os.path.normpath(os.path.join(CORPUS, name))
    files = sorted(os.path.join(folder, f) for f in os.listdir(folder)) if os.path.isdir(folder) else []
    if not files:
        return f"no corpus in tests/fuzz/corpus/{name}", 0
    code, output = run([exe, f"-timeout={ONE_INPUT}", *files], 300)
    if code == 0:
        return None, len(files)
    at = re.findall(r"^Running: (.*)$", output, re.M)
    where = os.path.relpath(at[-1], os.path.join(CORPUS, "../../..")) if at else "no file"
    return f"{where}: {what_broke(output)}", len(files)


def fuzz(name, exe, most, crashes, seconds, found):
    """(error or None, statistics)"""
    prefix = os.path.join(crashes, f".{name}-{os.getpid()}-")
    argv = [exe, f"-max_total_time={seconds}", f"-max_len={most}", f"-timeout={ONE_INPUT}", "-rss_limit_mb=2048",
            "-print_final_stats=1", f"-artifact_prefix={prefix}", found, os.path.join(CORPUS, name)]
    code, output = run(argv, seconds * 3 + 240)
    stats = {key: int(value) for key, value in re.findall(r"stat::(\w+): +(\d+)", output)}
    cover = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", output)
    stats["cov"], stats["corpus"] = (int(cover[-1][0]), int(cover[-1][2])) if cover else (0, 0)
    if code == 0:
        return None, stats
    why = what_broke(output)
    broken = re.search(r"Test unit written to (\S+)", output)
    kept = minimised(exe, crashes, name, broken[1], why) if broken else None
    with open(os.path.join(crashes, f"{name}.log"), "w", encoding="utf-8") as f:
        f.write(output[-200000:])
    return f"{why} (input {kept}, log {crashes}/{name}.log)", stats


def one(target, args):
    name, exe, most = target
    began = time.monotonic()
    error, files = replay(exe, name)
    stats = {}
    if error is None and args.seconds > 0:
        crashes = os.path.join(args.build, "crashes")
        if args.results:
            with tempfile.TemporaryDirectory(prefix="amphora-fuzz.") as found:
                error, stats = fuzz(name, exe, most, crashes, args.seconds, found)
        else:
            found = os.path.join(args.build, "corpus", name)
            os.makedirs(found, exist_ok=True)
            error, stats = fuzz(name, exe, most, crashes, args.seconds, found)
    line = f"{files} files, {stats.get('number_of_executed_units', 0)} runs, " \
           f"{stats.get('average_exec_per_sec', 0)}/s, {stats.get('cov', 0)} edges, {stats.get('corpus', 0)} inputs, " \
           f"{stats.get('peak_rss_mb', 0)} MB"
    print(f"{'FAIL' if error else 'ok  '} fuzz {name}: {line}" + (f"\n     {error}" if error else ""), flush=True)
    if args.results:
        row = {"suite": "fuzz", "case": name, "result": "failed" if error else "passed", "text": error or "",
               "seconds": time.monotonic() - began}
        with open(args.results, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
    return error is None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results")
    parser.add_argument("targets", nargs="*")
    args = parser.parse_intermixed_args()
    args.build = os.path.abspath(args.build)
    os.makedirs(os.path.join(args.build, "crashes"), exist_ok=True)
    targets = []
    listing = os.path.join(args.build, "fuzz-list")
    for name in sorted(os.listdir(listing)):
        with open(os.path.join(listing, name), encoding="utf-8") as f:
            most, exe = f.read().split(maxsplit=1)
        if not args.targets or any(word in name for word in args.targets):
            targets.append((name, exe.strip(), int(most)))
    if not targets and not args.results:
        sys.exit(f"no target is named {' or '.join(args.targets)}; there are: {' '.join(sorted(os.listdir(listing)))}")
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        good = list(pool.map(lambda target: one(target, args), targets))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
