# SPDX-License-Identifier: Apache-2.0
"""Device rules as an eBPF program: what opens and what does not, one program throughout, none left."""

from tests.support import groups
from tests.support.command import NATIVE, Cli, kind_args
from tests.support.runner import check, contains, equal
from tests.v2.t_limits import disk, update, with_resources

MKNOD = "CAP_MKNOD"


def rules(*list_):
    def change(spec):
        spec["linux"]["resources"]["devices"] = list(list_)
        for sets in spec["process"]["capabilities"].values():
            sets.append(MKNOD)
        spec["root"]["readonly"] = False
    return change


DENY_ALL = {"allow": False, "access": "rwm"}


def test_nodes_can_be_made_but_not_opened(lab):
    for name in ("runc", "amphora"):
        cli = Cli(lab, name)
        major, minor = disk()
        script = (f"mknod /dev/disk b {major} {minor} && echo made; dd if=/dev/disk of=/dev/null bs=1 count=1; "
                  "echo > /dev/null && echo null; mknod /dev/tunnel c 10 200 && (: < /dev/tunnel) && echo tunnel; "
                  "head -c 3 /dev/zero | wc -c; mknod /dev/fuse c 10 229; (: < /dev/fuse)")
        r = cli.run("sh", "-c", script, change=rules(DENY_ALL))
        equal(r.out.split(), ["made", "null", "tunnel", "3"], f"{name}: {r!r}")
        equal(r.err.count("Operation not permitted"), 2, f"{name}: {r.err}")


def test_what_is_allowed_opens_in_the_way_it_is_allowed(lab):
    major, minor = disk()
    cli = Cli(lab)
    allow = {"allow": True, "type": "b", "major": major, "minor": minor, "access": "r"}
    script = (f"mknod /dev/disk b {major} {minor}; dd if=/dev/disk of=/dev/null bs=1 count=1 2>/dev/null && echo read; "
              "dd if=/dev/zero of=/dev/disk bs=1 count=0 conv=notrunc 2>&1 | grep -o 'not permitted'")
    r = cli.run("sh", "-c", script, change=rules(DENY_ALL, allow))
    equal(r.out.split(), ["read", "not", "permitted"], repr(r))
    # The last rule that speaks about a device decides.
    r = cli.run("sh", "-c", script, change=rules(allow, DENY_ALL))
    equal(r.out.split()[:1], ["not"], repr(r))
    r = cli.run("sh", "-c", script, change=rules({"allow": True, "access": "rwm"}))
    equal(r.out.split(), ["read"], repr(r))


def test_one_program_throughout(lab):
    cli = Cli(lab)
    id = cli.running("sh", "-c", "n=0; while [ ! -e /tmp/stop ]; do cat /dev/null || echo fail; n=$((n+1)); done; echo $n > /tmp/n",
                     change=with_resources({"devices": [DENY_ALL]}))
    group = groups.of(lab, id)
    first = group.device_programs()
    equal(len(first), 1, "programs at the beginning")
    for n in range(60):
        update(cli, id, {"pids": {"limit": 100 + n}, "memory": {"limit": (64 + n) << 20}}).ok()
    equal(group.device_programs(), first, "programs after 60 updates")
    r = cli("exec", id, "sh", "-c", "cat /dev/null && echo fine").ok()
    equal(r.out, "fine\n")
    equal(cli.status(id), "running")
    cli.end(id)


def test_default_nodes_have_their_numbers(lab):
    r = Cli(lab).run("stat", "-c", "%n %t:%T %a", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
    equal(r.out.splitlines(), ["/dev/null 1:3 666", "/dev/zero 1:5 666", "/dev/full 1:7 666", "/dev/random 1:8 666",
                               "/dev/urandom 1:9 666", "/dev/tty 5:0 666"], repr(r))


def test_a_device_of_the_spec_opens(lab):
    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}]
        spec["linux"]["resources"]["devices"] = [DENY_ALL, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}]
    r = Cli(lab).run("sh", "-c", "(: < /dev/mine) && echo read; (: > /dev/mine)", change=change)
    equal(r.out, "read\n", repr(r))
    contains(r.err, "Operation not permitted")


def test_a_wasm_container_has_the_same_program(lab):
    cli = Cli(lab)
    id = cli.running("/app.wasm", "sleep", "100")
    equal(len(groups.of(lab, id).device_programs()), 1)
    check(cli("exec", id, *kind_args(NATIVE, "echo", "x")).out == "x\n", "a native exec")
    cli.end(id)
