#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules for every file: an SPDX line, a comment that says what belongs in it, at most 500 lines; docs
name files that exist; no address of a package mirror and no path of this machine in anything.
files.py RULE runs one of: header, length, docs, words."""

import os
import re
import subprocess
import sys

CODE = (".cc", ".h", ".c", ".py", ".sh", ".rs", ".go")
# The words that this machine's own settings give: mirrors and proxies it fetches packages from.
SETTINGS = ("/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/pip.conf", "~/.pip/pip.conf",
            "~/.config/pip/pip.conf", "~/.cargo/config.toml", "~/.cargo/config", "~/.npmrc")
# Names that the world knows; a project may link to them.
PUBLIC = re.compile(r"(^|\.)(debian\.org|github\.com|crates\.io|golang\.org|python\.org|pypi\.org|npmjs\.org|"
                    r"rust-lang\.org|kernel\.org|google\.com|localhost)$")


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                         check=True).stdout.split("\n")
    return [path for path in out if path and os.path.isfile(path)]


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def is_code(path):
    return path.endswith(CODE) or (path == "dev" or path == ".ci/run")


def header():
    for path in tracked():
        if not is_code(path) and not path.endswith(("CMakeLists.txt", ".proto")):
            continue
        lines = read(path).split("\n")[:8]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
            yield f"{path}: no SPDX line among its first three"
            continue
        if not is_code(path) or path.endswith("__init__.py"):
            continue
        at = next(i for i, line in enumerate(lines) if "SPDX" in line)
        comment = next((line.strip() for line in lines[at + 1:] if line.strip()), "")
        if not re.match(r'(//|/\*|#|""")', comment) or len(comment) < 12:
            yield f"{path}: no comment after the SPDX line that says what belongs here"


def length():
    for path in tracked():
        if is_code(path):
            count = read(path).count("\n")
            if count > 500:
                yield f"{path}: {count} lines, 500 are the limit: is it two concerns?"


def docs():
    for path in tracked():
        if not path.endswith(".md"):
            continue
        folder = os.path.dirname(path)
        text = re.sub(r"```.*?```", "", read(path), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", target) and not os.path.exists(os.path.normpath(os.path.join(folder, target))):
                yield f"{path}: link to {target}, which is not there"
        for name in re.findall(r"`((?:\./)?[\w.-]+(?:/[\w.{},*-]+)+)`", text):
            # A path of ours begins with a directory or file of ours.
            first = name.removeprefix("./").split("/")[0]
            if first not in ("build", "target") and os.path.isdir(first) and "*" not in name and "{" not in name:
                base = re.sub(r":\d+$", "", name.removeprefix("./"))
                if not (os.path.exists(base) or any(os.path.exists(base + e) for e in (".h", ".cc", ".py"))):
                    yield f"{path}: names {name}, which is not there"
    yield from cases_of_runwasi()


def cases_of_runwasi():
    """Cases that docs/runwasi.md names and no file has."""
    for line in read("docs/runwasi.md").splitlines():
        for suite, file, case in re.findall(r"(?:(shim|cli) )?(t_[a-z]+) ([a-z0-9_]{6,})", line.rsplit("|", 2)[-2] if "|" in line else ""):
            places = [f"tests/{name}/{file}.py" for name in ([suite] if suite else ["shim", "cli"])]
            if not any(os.path.exists(p) and f"def test_{case}(" in read(p) for p in places):
                yield f"docs/runwasi.md: {file} {case}: there is no such case"


def hosts_of_this_machine():
    found = set()
    for setting in SETTINGS:
        setting = os.path.expanduser(setting)
        files = [os.path.join(setting, f) for f in os.listdir(setting)] if os.path.isdir(setting) else [setting]
        for file in files:
            if os.path.isfile(file):
                found |= set(re.findall(r"https?://(?:[^/@\s\"]*@)?([\w.-]+)", read(file)))
    for variable in ("GOPROXY", "PIP_INDEX_URL", "npm_config_registry", "CARGO_REGISTRIES_CRATES_IO_INDEX"):
        found |= set(re.findall(r"https?://(?:[^/@\s\"]*@)?([\w.-]+)", os.environ.get(variable, "")))
    return {host for host in found if "." in host and not PUBLIC.search(host)}


def words():
    hosts = hosts_of_this_machine()
    here = os.path.realpath(".")
    paths = {here} if here.count("/") >= 2 else set()
    home = os.path.expanduser("~")
    if home not in ("/root", "/"):
        paths.add(home + "/")
    for path in tracked():
        text = read(path)
        for word in hosts | paths:
            if word in text:
                yield f"{path}: names {'a package mirror' if word in hosts else 'a path'} of this machine"


def main():
    bad = list({"header": header, "length": length, "docs": docs, "words": words}[sys.argv[1]]())
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
