# SPDX-License-Identifier: Apache-2.0
"""The images of the CRI cases, as OCI layouts for the registry that the program serves on loopback.
usage: images.py OUT GUESTS PROGRAMS     PROGRAMS has pause and setuid, static (pause.c, setuid.c)"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.dont_write_bytecode = True

from tests.support import fixtures, images  # noqa: E402


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    out, guests, programs = sys.argv[1:]
    os.makedirs(out, exist_ok=True)

    def write(name, layer, **config):
        images.write_image(f"{out}/{name}.tar", name + ":1", layer, **config)

    def busybox():
        layer = images.Layer().base().busybox()
        layer.file("bin/demo", read(f"{guests}/demo"))
        return layer
    for kind in ("native", "wasm", "mixed"):
        fixtures.write(f"{out}/{kind}.tar", kind + ":1", kind, guests)
    module = read(f"{guests}/demo.wasm")
    layer_type = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
    images.write_wasm(f"{out}/layered.tar", "layered:1", [(layer_type, module, "app.wasm")], env=["FROM_IMAGE=yes"])
    images.write_wasm(f"{out}/artifact.tar", "artifact:1", [("application/wasm", module, "app.wasm")], artifact=True)
    images.write_wasm(f"{out}/packed.tar", "packed:1", [("application/wasm+gzip", module, "app.wasm")])
    images.write_wasm(f"{out}/index.tar", "index:1", [("application/wasm", module, "app.wasm")], platforms=["wasi/wasm", "linux/amd64"])
    images.write_wasm(f"{out}/linked.tar", "linked:1", [("application/wasm", read(f"{guests}/{name}"), name) for name in (
        "linked.wasm", "math.wasm", "square.wat")], entrypoint=["/linked.wasm"])
    if os.path.exists(f"{guests}/wordsapp.wasm"):
        images.write_wasm(f"{out}/composed.tar", "composed:1", [(layer_type, read(f"{guests}/{name}"), name) for name in (
            "wordsapp.wasm", "words.wasm", "letters.wat")], entrypoint=["/wordsapp.wasm"])
    layer = images.Layer().base()
    layer.file("pause", read(f"{programs}/pause"))
    write("pause", layer, entrypoint=["/pause"])
    layer = busybox()
    layer.file("bin/setuid", read(f"{programs}/setuid"), 0o4755)
    write("setuid", layer, entrypoint=["/bin/setuid"])
    write("words", busybox(), entrypoint=["echo"], cmd=["from the image"])
    layer = busybox()
    layer.symlink("escape", "/mnt/lab/escaped")
    write("links", layer, cmd=["sh"])
    for name, user in (("user-number", "1002"), ("user-name", "www-data"), ("user-and-group", "1003:1005"),
                       ("user-root", "")):
        write(name, busybox(), cmd=["sh"], user=user)


main()
