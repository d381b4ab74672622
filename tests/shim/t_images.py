# SPDX-License-Identifier: Apache-2.0
"""Images whose modules are layers of their own (docs/images.md), through ctr: every kind and media type, which layer
is run, and where what is compiled of them is kept. What containerd 1.6 cannot unpack is imported without unpacking
and run by annotation there."""

import concurrent.futures
import http.server
import os
import re
import shutil
import socket
import threading
import time

from tests.support import images, inventory
from tests.support import lab as L
from tests.support.runner import Skip, check, contains, equal, eventually

COMPONENT_LAYER = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
CONTENT_LAYER = "application/vnd.wasm.content.layer.v1+wasm"
BLOBS = L.ROOT + "/io.containerd.content.v1.content/blobs/sha256/"


def guest(name):
    path = f"{L.GUESTS}/{name}"
    if not os.path.exists(path):
        raise Skip(f"{name} was not built here")
    with open(path, "rb") as f:
        return f.read()


def variant(number, name="demo.wasm"):
    """A module with a custom section of its own: other bytes, same behaviour."""
    return guest(name) + bytes([0, 6, 4]) + b"note" + bytes([number])


def exits(code):
    """A module that exits with `code` (0 to 63): other code, not only other bytes."""
    def section(id, *body):
        return bytes([id, len(bytes(body)), *body])
    wasi, name, memory, start = b"wasi_snapshot_preview1", b"proc_exit", b"memory", b"_start"
    return (b"\0asm\1\0\0\0" + section(1, 2, 0x60, 1, 0x7f, 0, 0x60, 0, 0) +
            section(2, 1, len(wasi), *wasi, len(name), *name, 0, 0) + section(3, 1, 1) + section(5, 1, 0, 1) +
            section(7, 2, len(memory), *memory, 2, 0, len(start), *start, 0, 1) + section(10, 1, 6, 0, 0x41, code, 0x10, 0, 0x0b))


class Image:
    """One image, imported as this containerd can, and how a container of it is asked for."""

    def __init__(self, lab, layers, **more):
        self.lab = lab
        word = lab.new_id("image")
        self.name = f"amphora.test/{word}:1"
        tar = f"{L.LAB}/{word}.tar"
        self.layers = images.write_wasm(tar, self.name, layers, **more)
        self.by_name = lab.containerd_version() >= (1, 7) and not more.get("artifact")
        options = []
        if more.get("platforms"):
            options = ["--platform", more["platforms"][0]] if self.by_name else ["--all-platforms"]
        lab.ctr("images", "import", *options, *([] if self.by_name else ["--no-unpack"]), tar).ok()
        os.unlink(tar)

    def run(self, *words, options=(), **more):
        if self.by_name:
            return self.lab.run(L.AMPHORA, self.name, *words, options=list(options), **more)
        root = f"{L.LAB}/{self.lab.new_id('root')}"
        os.makedirs(root)
        try:
            return self.lab.run(L.AMPHORA, root, *words, options=["--rootfs", "--annotation", "amphora.dev/image=" + self.name, *options], **more)
        finally:
            if "-d" not in options:
                shutil.rmtree(root, ignore_errors=True)

    def remove(self):
        self.lab.ctr("images", "rm", "--sync", self.name).ok()


def contents(lab):
    """What containerd's store has: digest -> the rest of its line (size, age, labels)."""
    lines = lab.ctr("content", "ls").ok().out.splitlines()[1:]
    return {line.split()[0]: line for line in lines}


def compiled_of(lab, layer):
    """Digests of what was compiled from a layer, by its label."""
    line = contents(lab).get(layer, "")
    return re.findall(r"containerd\.io/gc\.ref\.content\.amphora-[0-9a-f]+=(sha256:[0-9a-f]{64})", line)


def records():
    """What our cache knows of artifacts in containerd's store: file -> when it was written, by its inode."""
    return {name: os.stat("/var/cache/amphora/" + name).st_ino for name in os.listdir("/var/cache/amphora")
            if re.fullmatch(r"[0-9a-f]{64}-[0-9a-f]{12}\.rec", name)}


def test_each_media_type_runs(lab):
    for number, media_type in enumerate((COMPONENT_LAYER, "application/wasm", CONTENT_LAYER, "application/vnd.example.module.v3+wasm",
                                         "application/wasm+gzip", CONTENT_LAYER + "+gzip", "application/wasm+zstd")):
        image = Image(lab, [(media_type, variant(number), "app.wasm")])
        equal(image.run("/app.wasm", "echo", "of", "a", "layer").ok().out, "of a layer\n", media_type)
        equal(image.run("/app.wasm", "exit", "42").code, 42, media_type)


def test_the_entrypoint_of_the_image_and_its_environment(lab):
    image = Image(lab, [(COMPONENT_LAYER, guest("demo.wasm"), "app.wasm")], entrypoint=("/app.wasm", "env"), env=["FROM_IMAGE=yes"])
    if not image.by_name:
        raise Skip("containerd 1.6 makes no container of such an image, so that its config is nobody's")
    contains(image.run().ok().out, "FROM_IMAGE=yes\n")


def test_a_component_layer_runs(lab):
    image = Image(lab, [(COMPONENT_LAYER, guest("command.wasm"), "command.wasm")], entrypoint=("/command.wasm",), os_name="wasip2")
    r = image.run("/command.wasm", "args", "a", "b")
    equal(r.code, lab.run(L.AMPHORA, L.WASM, "/command.wasm", "args", "a", "b").code, "beside the same component as a file")
    equal(r.out, lab.run(L.AMPHORA, L.WASM, "/command.wasm", "args", "a", "b").out)


def test_an_artifact_runs(lab):
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")], artifact=True)
    equal(image.run("/app.wasm", "echo", "an", "artifact").ok().out, "an artifact\n")
    # That ctr makes no container of one is containerd's word, and says what it is.
    if lab.containerd_version() >= (1, 7):
        contains(lab.run(L.AMPHORA, image.name, "/app.wasm").err, "unknown image config media type application/vnd.wasm.config.v0+json")


def test_containerd_says_what_it_cannot_unpack(lab):
    if lab.containerd_version() >= (1, 7):
        raise Skip("this containerd unpacks images with wasm layers")
    tar = f"{L.LAB}/unpack.tar"
    images.write_wasm(tar, "amphora.test/unpack:1", [(COMPONENT_LAYER, guest("demo.wasm"), "app.wasm")])
    contains(lab.ctr("images", "import", tar).err, "mismatched image rootfs and manifest layers")


def test_behind_an_index(lab):
    for platforms in (("wasi/wasm",), ("wasip1/wasm",), ("wasip2/wasm", "linux/arm64")):
        image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")], platforms=platforms)
        options = ["--platform", platforms[0]] if image.by_name else []
        equal(image.run("/app.wasm", "echo", platforms[0], options=options).ok().out, platforms[0] + "\n")


def test_the_title_chooses_among_layers(lab):
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "one.wasm"), ("application/wasm", exits(22), "two.wasm")])
    equal(image.run("/one.wasm", "echo", "one").ok().out, "one\n")
    equal(image.run("/bin/two.wasm").code, 22)
    r = image.run("/three.wasm")
    check(r.code != 0, "a name that no layer has ran")
    contains(r.err, 'it has 2 wasm layers (one.wasm, two.wasm), and none of them is titled "three.wasm"')


def test_files_of_the_image_come_first(lab):
    """An ordinary layer beside a wasm one: its files are there, and an entrypoint among them is not looked for elsewhere."""
    layer = images.Layer().base()
    layer.busybox()
    layer.file("data/note", b"from the ordinary layer\n", 0o644)
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")], files=layer)
    if not image.by_name:
        raise Skip("containerd 1.6 cannot unpack it")
    equal(image.run("/app.wasm", "read", "/data/note").ok().out, "from the ordinary layer\n")
    equal(image.run("/bin/cat", "/data/note").ok().out, "from the ordinary layer\n")


def test_a_missing_program_of_a_native_image_is_just_missing(lab):
    r = lab.run(L.AMPHORA, L.NATIVE, "/bin/nowhere")
    contains(r.err, 'exec: "/bin/nowhere": no such file or directory: not found')


def test_a_layer_that_is_no_wasm(lab):
    image = Image(lab, [("application/wasm", b"no module at all", "app.wasm")])
    r = image.run("/app.wasm")
    check(r.code != 0, "it ran")
    contains(r.err, "is no WebAssembly")


def test_a_changed_layer_is_not_run(lab):
    image = Image(lab, [("application/wasm", variant(77), "app.wasm")])
    path = BLOBS + image.layers[0].removeprefix("sha256:")
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(1000)
        byte = f.read(1)
        f.seek(1000)
        f.write(bytes([byte[0] ^ 1]))
    r = image.run("/app.wasm", "echo", "never")
    check(r.code != 0 and "never" not in r.out, f"a changed layer ran: {r!r}")
    contains(r.err, "was changed: its bytes have the digest")


def test_wasm_forbidden_by_annotation(lab):
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")])
    r = image.run("/app.wasm", "echo", "x", options=["--annotation", "amphora.dev/wasm=off"])
    check(r.code != 0, "it ran")
    contains(r.err, "no such file")


def test_exec_means_the_module_by_its_name(lab):
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")])
    id = lab.new_id()
    image.run("/app.wasm", "daemon", options=["-d"], id=id).ok()
    equal(lab.ctr("task", "exec", "--exec-id", "e1", id, "/app.wasm", "echo", "again").ok().out, "again\n")
    contains(lab.ctr("task", "exec", "--exec-id", "e2", id, "/bin/sh").err, "no such file")
    lab.end(id)


def test_compiled_once_and_kept_with_the_image(lab):
    image = Image(lab, [("application/wasm", guest("hello-go.wasm"), "app.wasm")])
    layer = image.layers[0]
    before = records()
    first = image.run("/app.wasm").ok()
    compiled = compiled_of(lab, layer)
    equal(len(compiled), 1, "artifacts that the layer's label keeps")
    check(compiled[0] in contents(lab), "the artifact is not in the store")
    contains(contents(lab)[compiled[0]], "amphora.dev/compiled=1")
    equal(lab.ctr("leases", "ls", "-q").ok().out.strip(), "", "leases afterwards")
    new = {k: v for k, v in records().items() if k not in before}
    equal(len(new), 1, "records of ours")
    # What was read through is recorded once more; after that nothing is written at all.
    time.sleep(0.1)
    image.run("/app.wasm").ok()
    settled = records()
    second = image.run("/app.wasm").ok()
    equal(records(), settled, "records after a start that compiles nothing")
    check(second.seconds < first.seconds, f"{second.seconds:.2f} s with the artifact, {first.seconds:.2f} s without")
    own = [name for name in os.listdir("/var/cache/amphora") if name == next(iter(new)).split("-")[0] + ".art"]
    equal(own, [], "a second copy in our own cache")
    image.remove()
    eventually(lambda: compiled[0] not in contents(lab), 10, "the artifact goes with its image")
    check(not os.path.exists(BLOBS + compiled[0].removeprefix("sha256:")), "its file is still there")


def test_a_removed_artifact_is_compiled_anew(lab):
    image = Image(lab, [("application/wasm", exits(12), "app.wasm")])
    equal(image.run("/app.wasm").code, 12)
    compiled = compiled_of(lab, image.layers[0])[0]
    lab.ctr("content", "rm", compiled).ok()
    check(compiled not in contents(lab), "ctr content rm left it")
    equal(image.run("/app.wasm").code, 12)
    check(compiled_of(lab, image.layers[0])[0] in contents(lab), "it was not kept again")


def test_a_tampered_artifact_is_never_loaded(lab):
    image = Image(lab, [("application/wasm", exits(13), "app.wasm")])
    equal(image.run("/app.wasm").code, 13)
    compiled = compiled_of(lab, image.layers[0])[0]
    path = BLOBS + compiled.removeprefix("sha256:")
    with open(path, "rb") as f:
        good = f.read()
    # Filled with breakpoints: who loads it dies.
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(len(good) // 3)
        f.write(b"\xcc" * (len(good) // 3))
    for n in range(2):
        equal(image.run("/app.wasm").code, 13, f"start {n} after the artifact was overwritten")


def test_a_label_of_somebody_else_loads_nothing(lab):
    """Who may write labels cannot make us load what we did not write."""
    image = Image(lab, [("application/wasm", variant(4), "app.wasm")])
    image.run("/app.wasm", "echo", "1").ok()
    line = contents(lab)[image.layers[0]]
    key = re.search(r"(containerd\.io/gc\.ref\.content\.amphora-[0-9a-f]+)=", line)[1]
    evil = images._digest(b"evil")
    lab.ctr("content", "ingest", "--expected-digest", evil, "evil", stdin="evil").ok()
    lab.ctr("content", "label", image.layers[0], f"{key}={evil}").ok()
    equal(image.run("/app.wasm", "echo", "2").ok().out, "2\n")


def test_images_that_share_a_layer_share_the_artifact(lab):
    module = exits(5)
    one = Image(lab, [("application/wasm", module, "app.wasm")])
    equal(one.run("/app.wasm").code, 5)
    compiled = compiled_of(lab, one.layers[0])
    two = Image(lab, [("application/wasm", module, "app.wasm")], entrypoint=("/app.wasm", "env"))
    equal(two.run("/app.wasm").code, 5)
    equal(compiled_of(lab, two.layers[0]), compiled)
    one.remove()
    check(compiled[0] in contents(lab), "it went with the first of two images")
    two.remove()
    eventually(lambda: compiled[0] not in contents(lab), 10, "it goes with the last image")


def test_the_same_module_in_another_layer_keeps_it_too(lab):
    module = exits(21)
    plain = Image(lab, [("application/wasm", module, "app.wasm")])
    packed = Image(lab, [("application/wasm+gzip", module, "app.wasm")])
    equal((plain.run("/app.wasm").code, packed.run("/app.wasm").code), (21, 21))
    compiled = compiled_of(lab, plain.layers[0])
    equal(compiled_of(lab, packed.layers[0]), compiled, "what the compressed layer keeps")
    plain.remove()
    check(compiled[0] in contents(lab), "it went with the first of two layers")


def test_many_first_starts_compile_once(lab):
    image = Image(lab, [("application/wasm", variant(30, "hello-go.wasm"), "app.wasm")])
    ids = [lab.new_id() for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for r in pool.map(lambda id: image.run("/app.wasm", id=id, timeout=120), ids):
            check(r.code == 0, f"one of eight: {r!r}")
    equal(len(compiled_of(lab, image.layers[0])), 1, "artifacts")
    equal(lab.ctr("leases", "ls", "-q").ok().out.strip(), "", "leases afterwards")


def test_no_helper_stays(lab):
    """And none is there for a container with a program of its own, native or wasm."""
    image = Image(lab, [("application/wasm", guest("demo.wasm"), "app.wasm")])
    id = lab.new_id()
    image.run("/app.wasm", "daemon", options=["-d"], id=id).ok()
    check(not [line for line in inventory.processes().values() if "amphora-content" in line], "a helper is left")
    lab.end(id)


def test_cache_warm_of_an_image(lab):
    image = Image(lab, [("application/wasm", variant(8), "one.wasm"), ("application/wasm", variant(9), "two.wasm")])
    env = dict(lab.env, AMPHORA_BIN_DIR=L.LAB + "/prefix/bin")
    warm = ["amphora", "cache", "warm", "--image", image.name]
    L.command([*warm, "two.wasm"], env=env).ok()
    equal(compiled_of(lab, image.layers[0]), [], "artifacts of the layer that nobody named")
    equal(len(compiled_of(lab, image.layers[1])), 1, "artifacts of the one that was named")
    before = records()
    image.run("/two.wasm", "echo", "x").ok()
    check(set(records()) == set(before), "a warmed module was compiled again")
    contains(L.command(warm, env=env).err, "it has 2 wasm layers (one.wasm, two.wasm)")
    contains(L.command(["amphora", "cache", "warm", "--image", "amphora.test/nowhere:1"], env=env).err, "not found")
    contains(L.command([*warm, "--address", "/nowhere.sock", "two.wasm"], env=env).err, "connect to containerd at /nowhere.sock")
    contains(L.command([*warm, "--namespace", "other", "two.wasm"], env=env).err, "not found")


def test_three_languages_in_each_kind_of_image(lab):
    """C and Go as modules, Rust as a component: an ordinary layer, a layer of its own and an artifact answer alike."""
    guests = {"C": guest("demo.wasm"), "Go": guest("demo-go.wasm"), "Rust": guest("command.wasm")}
    for language, module in guests.items():
        name = f"amphora.test/{language.lower()}-file:1"
        layer = images.Layer().base()
        layer.file("app.wasm", module)
        tar = f"{L.LAB}/language.tar"
        images.write_image(tar, name, layer, entrypoint=["/app.wasm"])
        lab.ctr("images", "import", tar).ok()

        def file(*words, options=(), **more):
            return lab.run(L.AMPHORA, name, *words, options=list(options), **more)
        kinds = {"file": file, "layer": Image(lab, [(COMPONENT_LAYER, module, "app.wasm")]).run,
                 "artifact": Image(lab, [("application/wasm", module, "app.wasm")], artifact=True).run}
        for kind, run in kinds.items():
            what = f"{language}, {kind}"
            equal(run("/app.wasm", "echo", "a", "b").ok().out, "a b\n", what)
            equal(run("/app.wasm", "exit", "42").code, 42, what)
            contains(run("/app.wasm", "env", options=["--env", "WORD=x y"]).ok().out, "WORD=x y\n", what)
            equal(run("/app.wasm", "trap").code, {"C": 134, "Go": 2, "Rust": 134}[language], what)
            volume = f"{L.LAB}/{lab.new_id('volume')}"
            os.makedirs(volume)
            mount = ["--mount", f"type=bind,src={volume},dst=/v,options=rbind:rw"]
            run("/app.wasm", "write", "/v/note", "written", options=mount).ok()
            equal(run("/app.wasm", "read", "/v/note", options=mount).ok().out.strip(), "written", what)
            listed = set(run("/app.wasm", "ls", "/v", options=mount).ok().out.split())
            equal(listed - {".", ".."}, {"note"}, what)


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers with the path that was asked for."""

    def do_GET(self):
        body = f"asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_an_http_client_and_a_server_as_layers(lab):
    client = Image(lab, [(COMPONENT_LAYER, guest("command.wasm"), "client.wasm")], os_name="wasip2")
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        equal(client.run("/client.wasm", "get", address, "/a/path", options=["--net-host"]).ok().out, "asked for /a/path\n")
        server.shutdown()
    served = Image(lab, [(COMPONENT_LAYER, guest("http.wasm"), "http.wasm")], os_name="wasip2")
    id = lab.new_id()
    served.run("/http.wasm", options=["-d", "--net-host", "--annotation", "amphora.dev/engine.http-listen=127.0.0.1:18080"], id=id).ok()
    eventually(lambda: client.run("/client.wasm", "get", "127.0.0.1:18080", "/hello", options=["--net-host"]).out.strip() != "", 10,
               "the server that is a layer answers the client that is one")
    lab.end(id, sig="SIGTERM")


def test_the_helper_reads_images_without_rights(lab):
    image = Image(lab, [("application/wasm", exits(32), "app.wasm")])
    equal(image.run("/app.wasm").code, 32)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = os.path.dirname(L.BIN) + "/libexec/amphora/amphora-content"
    pid = os.posix_spawn(program, [program, L.SOCKET, lab.namespace], {},
                         file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 30), (os.POSIX_SPAWN_DUP2, 30, 3)])
    theirs.close()
    try:
        ours.send(b"open\0\0" + image.name.encode() + b"\0/app.wasm\0\0")
        answer, _, _, _ = socket.recv_fds(ours, 65536, 4)
        check(answer.startswith(b"answered\0" + image.layers[0].encode()), f"its answer: {answer!r}")
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        equal((status["Uid"], status["Gid"], status["Groups"].strip(), status["CapEff"], status["CapPrm"], status["NoNewPrivs"]),
              ("\t".join(["65534"] * 4), "\t".join(["65534"] * 4), "", "0" * 16, "0" * 16, "1"))
        # The store's own file, not a copy of it: all who map it share its pages.
        compiled = compiled_of(lab, image.layers[0])[0].removeprefix("sha256:")
        ours.send(b"find\0" + compiled.encode() + b"\0")
        answer, fds, _, _ = socket.recv_fds(ours, 65536, 4)
        equal(answer, b"answered\0")
        equal(os.fstat(fds[0]).st_ino, os.stat(BLOBS + compiled).st_ino)
        os.close(fds[0])
        ours.send(b"nonsense\0")
        check(ours.recv(65536).startswith(b"failed\0"), "a question that nobody knows")
    finally:
        ours.close()
        equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "its end when nobody asks any more")


def test_each_engine_keeps_its_own_artifact_of_a_layer(lab):
    image = Image(lab, [("application/wasm", exits(31), "app.wasm")])
    for number, engine in enumerate(("wasmtime", "wamr"), 1):
        r = image.run("/app.wasm", options=["--annotation", "amphora.dev/engine=" + engine])
        if "No such file" in r.err and engine in r.err:
            raise Skip(f"engine {engine} was not built")
        equal(r.code, 31, f"{engine}: {r!r}")
        equal(len(set(compiled_of(lab, image.layers[0]))), number, f"artifacts after {engine}")
