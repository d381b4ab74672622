# SPDX-License-Identifier: Apache-2.0
"""A tiny test runner: a case is a function whose name begins with test_ and which takes the lab. It
passes by returning, fails by an exception, and skips by raising Skip with a reason. Around every case
the lab counts what is left behind; leftovers fail the case."""

import inspect
import json
import sys
import time
import traceback


class Skip(Exception):
    """This case cannot be run here; the text says why."""


class Failed(AssertionError):
    """A check that did not hold."""


def equal(got, want, what=""):
    if got != want:
        raise Failed(f"{what or 'value'}: got {got!r}, want {want!r}")


def contains(text, part, what=""):
    if part not in text:
        raise Failed(f"{what or 'text'}: {part!r} is not in {text!r}")


def check(condition, text):
    if not condition:
        raise Failed(text)


def eventually(condition, seconds, what, every=0.02):
    """Waits until condition() is true; its value is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)


def cases_of(modules, words):
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_") or function.__module__ != module.__name__:
                continue
            full = module.__name__.rsplit(".", 1)[-1] + "." + name[5:]
            if not words or any(word in full for word in words):
                yield function.__code__.co_firstlineno, full, function


def run(suite, modules, lab, words, results):
    """Runs all cases, prints a line each, appends {suite, case, result, ...} lines to `results`.
    Returns True when none failed."""
    failed = 0
    with open(results, "a", encoding="utf-8") as out:
        for module in modules:
            for _, name, function in sorted(cases_of([module], words)):
                begun = time.monotonic()
                outcome, text = "passed", ""
                lab.before_case(name)
                try:
                    function(lab)
                except Skip as skip:
                    outcome, text = "skipped", str(skip)
                except Exception as error:  # any exception is the case's failure, and shown
                    outcome = "failed"
                    where = traceback.extract_tb(error.__traceback__)
                    line = next((f for f in reversed(where) if "/tests/support/" not in f.filename),
                                where[-1])
                    text = f"{error}\n    at {line.filename.split('/')[-1]}:{line.lineno}: {line.line}"
                    if not isinstance(error, Failed):
                        text = type(error).__name__ + ": " + text
                left = lab.after_case(name, outcome == "failed")
                if left and outcome != "failed":
                    outcome, text = "failed", "left behind: " + left
                elif left:
                    text += "\n    also left behind: " + left
                seconds = time.monotonic() - begun
                failed += outcome == "failed"
                word = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}[outcome]
                print(f"{word} {suite}.{name} ({seconds:.2f} s)" + (": " + text if text else ""),
                      flush=True)
                out.write(json.dumps({"suite": suite, "case": name, "result": outcome,
                                      "text": text, "seconds": round(seconds, 3)}) + "\n")
                out.flush()
    sys.stdout.flush()
    return failed == 0
