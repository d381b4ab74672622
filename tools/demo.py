# SPDX-License-Identifier: Apache-2.0
"""What ./dev demo shows, inside inroot.sh: a private containerd, one pod of a native sandbox, a native
sidecar, a wasm app that is a file, one that is an image's layer and one that is an artifact, by our shim; then what is left, which is nothing."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

from tests.shim.t_pod import Pod  # noqa: E402
from tests.support import inventory  # noqa: E402
from tests.support import lab as L  # noqa: E402
from tests.support.main import reap_for  # noqa: E402
from tests.support.runner import check, eventually  # noqa: E402

begun = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - begun:5.2f} s] {text}", flush=True)


def show(text):
    for line in text.rstrip("\n").split("\n"):
        print("          " + line, flush=True)


class Layered:
    """An image whose module is a layer and no file, built by `amphora image`, imported without unpacking (which Debian's
    containerd 1.6 cannot) and run by the annotation that names it."""

    def __init__(self, lab, word, *options):
        self.lab, self.name = lab, f"amphora.demo/{word}:1"
        tar = f"{L.LAB}/{word}.tar"
        L.command(["amphora", "image", "build", "-r", "amphora.demo", "-n", word, "-t", "1", "-m", L.GUESTS + "/demo.wasm",
                   *options, "-o", tar], env=lab.env).ok()
        L.command(["amphora", "image", "verify", tar], env=lab.env).ok()
        lab.ctr("images", "import", "--no-unpack", tar).ok()
        os.makedirs(L.LAB + "/empty", exist_ok=True)

    def run(self, pod, id, *words, more=()):
        options = pod.options(more=["--rootfs", "--annotation", "amphora.dev/image=" + self.name, *more])
        return self.lab.run(L.AMPHORA, L.LAB + "/empty", *words, options=options, id=id)


def images_story(lab, pod):
    """A wasm layer image and an artifact join the pod; returns the ids of those that go on."""
    say("two images without any file: one with a wasm layer, one CNCF artifact; built and verified by amphora image")
    layered, artifact = Layered(lab, "layers"), Layered(lab, "artifact", "--as-artifact")
    show(L.command(["amphora", "image", "inspect", L.LAB + "/artifact.tar"], env=lab.env).ok().out)
    for word, image in (("layer", layered), ("artifact", artifact)):
        r = image.run(pod, f"{pod.id}-{word}", "/app.wasm", "echo", "from", "the", word).ok()
        show(f"{r.out.strip()}  ({r.seconds * 1000:.0f} ms)")
    ids = []
    for word, image in (("layered", layered), ("artifact2", artifact)):
        ids.append(f"{pod.id}-{word}")
        image.run(pod, ids[-1], "/app.wasm", "daemon", more=["-d"]).ok()
    return ids


def story(lab):
    say("containerd " + lab.ctr("version").ok().out.split("Version:")[-1].split()[0] +
        " is up, private to this demo; images are made on the spot and imported")
    lab.load_images()
    before = len(inventory.processes())
    volume = L.LAB + "/volume"
    os.makedirs(volume)
    mount = ["--mount", f"type=bind,src={volume},dst=/volume,options=rbind:rw"]

    say("a pod: its sandbox is a native program that waits, and owns the network namespace")
    pod = Pod(lab)
    say("a native sidecar joins it: busybox, waiting for a file in the shared volume")
    sidecar = pod.run("sidecar", L.NATIVE, "sh", "-c",
                      "while ! [ -s /volume/note ]; do sleep 0.05; done; "
                      "sed 's/^/sidecar read: /' /volume/note > /volume/reply; sleep 1000", more=mount)
    say("a wasm app joins it: the image holds app.wasm and no shell, no libc, no annotation")
    first = lab.log_size()
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm", "write", "/volume/note", "greetings", "from", "WebAssembly",
                options=pod.options(more=mount), id=pod.id + "-writer").ok()
    say(f"it wrote the volume and ended with {r.code}, in {r.seconds * 1000:.0f} ms as ctr sees it (its module was compiled first)")
    eventually(lambda: os.path.exists(volume + "/reply"), 5, "the sidecar answers")
    with open(volume + "/reply", encoding="utf-8") as f:
        show(f.read())
    app = pod.run("app", L.WASM, "/app.wasm", "daemon", more=mount)
    r = lab.run(L.AMPHORA, L.WASM, "/app.wasm", "exit", "42", options=pod.options(), id=pod.id + "-exit")
    say(f"another wasm app exits with {r.code}, after {r.seconds * 1000:.0f} ms: the second start of a module compiles nothing")
    layered = images_story(lab, pod)
    say("the pod, as containerd lists it: a native sandbox and sidecar, a module that is a file, one that is a layer, one that is an artifact")
    show(lab.ctr("task", "ls").ok().out)
    say("one shim serves all of it, and one network namespace holds it")
    names = inventory.processes()
    show("\n".join(f"shim {pid}: {names[pid]}" for pid in lab.shims()))
    for id in (pod.id, sidecar, app, *layered):
        pid = lab.pid(id)
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = f.read().replace(b"\0", b" ").decode()[:40]
        show(f"{id:<14} pid {pid:<6} {os.readlink(f'/proc/{pid}/ns/net')}  {words}")
    check(len(lab.shims()) == 1, "the pod has more than one shim")
    say("how each was decided, from the shim's log")
    show("\n".join(line for line in lab.log_since(first).splitlines() if "wasm-module" in line)[:600] or "(no line)")
    say("the wasm app gets SIGTERM, the others SIGKILL")
    begun_end = time.monotonic()
    lab.end(app, *layered, sig="SIGTERM")
    pod.end(sidecar)
    say(f"all ended and deleted in {time.monotonic() - begun_end:.2f} s")
    eventually(lambda: len(inventory.processes()) == before, 3, "no process is left")
    left = [p for p in inventory.cgroups([lab.namespace]) if not p.endswith("/" + lab.namespace)]
    check(not left, f"cgroups are left: {left}")
    say("nothing is left: no process, no cgroup, no mount")


def main():
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lab = L.Lab(os.environ.get("LAB_NAME", "demo"))
            lab.start()
            try:
                story(lab)
                code = 0
            finally:
                if code:
                    print(lab.log_tail(3000))
                lab.stop()
        finally:
            if sys.exc_info()[0] is not None:
                import traceback
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
    sys.exit(reap_for(child))


if __name__ == "__main__":
    main()
