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


def words_of_help(cli, *words):
    """Long and short words of the options that help shows, but those of help itself."""
    text = cli("help", *words).ok().out
    lines = re.findall(r"^ +--([a-z0-9-]+)(?: value)?(?:, -(\w))?", text, re.M)
    return {word for pair in lines for word in (f"--{pair[0]}", f"-{pair[1]}") if word != "-"} - {"--help", "-h", "--version", "-v"}


def words_of_script(shell, script, verb):
    """What a completion script offers behind a verb; the empty one: in front of it."""
    if shell == "bash":
        label = verb or "''"
        words = re.search(rf"^    {label}\) words='([^']*)'", script, re.M)[1].split()
        return {w for w in words if w.startswith("-")} - {"--help"}
    if shell == "zsh":
        part = re.search(rf"^    \({verb}\) _arguments(.*?) ;;$" if verb else r"_arguments -C(.*?)'1: :->verb'", script, re.M | re.S)[1]
        return set(re.findall(r"'\*(--?[a-z0-9-]+)\[", part))
    where = f"'__fish_seen_subcommand_from {verb}'" if verb else "__fish_use_subcommand"
    lines = [line for line in script.splitlines() if line.startswith(f"complete -c amphora -n {where} -l ")]
    pairs = [re.search(r" -l ([a-z0-9-]+)(?: -s (\w))?", line).groups() for line in lines]
    return {word for long, short in pairs for word in (f"--{long}", f"-{short}") if word != "-None"}


def test_completions_name_every_option(lab):
    """Behind each verb the options of its help, no more and no less, in each shell."""
    cli = Cli(lab)
    for shell in SHELLS:
        script = cli("completion", shell).ok().out
        for verb in verbs_of(cli):
            contains(script, verb, shell)
            equal(words_of_script(shell, script, verb), words_of_help(cli, verb), f"{shell} {verb}")
        equal(words_of_script(shell, script, ""), words_of_help(cli), f"{shell}, global options")
    r = cli("completion", "csh")
    check(r.code == 1 and "bash, zsh and fish" in r.err, repr(r))


# runc's options, hidden ones included: what drives it may use any.
RUNCS = {
    "create": "bundle b console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds",
    "run": "bundle b console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds detach d keep no-subreaper",
    "start": "", "state": "", "pause": "", "resume": "", "features": "",
    "kill": "all a", "delete": "force f", "list": "format f quiet q", "ps": "format f",
    "exec": "console-socket pidfd-socket cwd env e tty t user u additional-gids g process p detach d pid-file process-label apparmor "
            "no-new-privs cap c preserve-fds cgroup ignore-paused",
    "update": "resources r blkio-weight cpu-period cpu-quota cpu-burst cpu-share cpu-rt-period cpu-rt-runtime cpuset-cpus cpuset-mems memory "
              "memory-reservation memory-swap cpu-idle pids-limit l3-cache-schema mem-bw-schema kernel-memory kernel-memory-tcp",
    "events": "interval stats", "spec": "bundle b rootless",
    "checkpoint": "image-path work-path parent-path leave-running tcp-established tcp-skip-in-flight link-remap ext-unix-sk shell-job lazy-pages "
                  "status-fd page-server file-locks pre-dump manage-cgroups-mode empty-ns auto-dedup",
    "restore": "console-socket image-path work-path tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode bundle b detach d pid-file "
               "no-subreaper no-pivot empty-ns auto-dedup lazy-pages lsm-profile lsm-mount-context",
}


def test_every_option_of_runcs_is_taken(lab):
    cli = Cli(lab)
    with tempfile.TemporaryDirectory() as empty:
        for verb, options in RUNCS.items():
            check(verb in verbs_of(cli), f"no verb {verb}")
            for option in options.split():
                word = f"--{option}" if len(option) > 1 else f"-{option}"
                r = cli(verb, word, cwd=empty)
                check("flag provided but not defined" not in r.err, f"{verb} {word}: {r!r}")
            r = cli(verb, "--none-such")
            contains(r.err + r.out, "flag provided but not defined: -none-such", verb)
    for option in ("debug", "log /dev/null", "log-format json", "root /nowhere", "systemd-cgroup", "rootless auto"):
        r = subprocess.run([cli.name, *f"--{option}".split(), "list"], capture_output=True, text=True, env=lab.env, timeout=30, check=False)
        check("not defined" not in r.stderr, f"--{option}: {r.stderr}")


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
