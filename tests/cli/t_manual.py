# SPDX-License-Identifier: Apache-2.0
"""The manual page and the completions say what the command's own help says, no more and no less."""

import re
import subprocess
import tempfile

from tests.support.command import Cli
from tests.support.runner import check, contains, equal

SHELLS = ("bash", "zsh", "fish")


def help_of(cli, *words):
    text = cli("help", *words).ok().out
    return set(re.findall(r"^ +--([a-z0-9-]+)", text, re.M)) - {"help", "version"}


def verbs_of(cli):
    text = cli("help").ok().out.split("COMMANDS:")[1].split("GLOBAL OPTIONS:")[0]
    return [line.split()[0] for line in text.splitlines() if line.strip() and "help, h" not in line]


def test_manual_page(lab):
    cli = Cli(lab)
    page = cli("man").ok().out
    sections = dict(re.findall(r"^\.S[SH] ([^\n]+)\n(.*?)(?=^\.S[SH] |\Z)", page, re.M | re.S))
    plain = {name.replace("\\-", "-"): text for name, text in sections.items()}

    def options(text):
        return set(re.findall(r"^\\fB\\-\\-([a-z0-9\\-]+?)(?:,|\\fR)", text, re.M))
    for verb in verbs_of(cli):
        check(verb in plain, f"{verb} has no section")
        equal({o.replace("\\-", "-") for o in options(plain[verb])}, help_of(cli, verb), verb)
    equal({o.replace("\\-", "-") for o in options(plain["GLOBAL OPTIONS"])} - {"help"}, help_of(cli), "global")
    listed = [n for n in re.findall(r"^\.SS (.+)$", page, re.M)]
    equal([n.replace("\\-", "-") for n in listed], verbs_of(cli), "sections")


def test_completions_name_every_option(lab):
    cli = Cli(lab)
    for shell in SHELLS:
        script = cli("completion", shell).ok().out
        for verb in verbs_of(cli):
            contains(script, verb, shell)
            for option in help_of(cli, verb):
                contains(script, f"-l {option}" if shell == "fish" else f"--{option}", f"{shell} {verb}")
    r = cli("completion", "csh")
    check(r.code == 1 and "bash, zsh and fish" in r.err, repr(r))


def test_bash_completes(lab):
    cli = Cli(lab)
    with tempfile.NamedTemporaryFile("w", suffix=".bash") as f:
        f.write(cli("completion", "bash").ok().out)
        f.flush()

        def complete(*words):
            line = " ".join(f"'{w}'" for w in words)
            code = (f"source {f.name}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _amphora; "
                    "printf '%s\\n' \"${COMPREPLY[@]}\"")
            done = subprocess.run(["bash", "-uec", code], capture_output=True, text=True, env=lab.env, timeout=30,
                                  check=False)
            equal((done.returncode, done.stderr), (0, ""), line)
            return done.stdout.split()
        equal(complete("amphora", "sta"), ["start", "state"])
        equal(complete("amphora", "--root", "/run/x", "delete", "--f"), ["--force"])
        contains(complete("amphora", "--debug", "run", "--"), "--console-socket")
        id = cli.create("/bin/demo", "pause")
        equal(complete("amphora", "--root", cli.root, "kill", id[:2]), [id], "container ids")
        cli.end(id)
