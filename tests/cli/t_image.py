# SPDX-License-Identifier: Apache-2.0
"""amphora image: what it builds is the same each time, verifies, is refused when a byte is changed, and is taken
by skopeo, umoci and ctr. How the images run is tests/shim/t_images.py."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

from tests.support import images
from tests.support import lab as L
from tests.support.command import Cli
from tests.support.runner import Skip, check, contains, equal

MODULE = L.GUESTS + "/demo.wasm"
COMPONENT = L.GUESTS + "/command.wasm"
COMPONENT_LAYER = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"


def image(lab, *args):
    return L.command(["amphora", "image", *args], env=lab.env)


def built(lab, *args, name="x"):
    """A tar of the image, and its documents by jq's words."""
    path = f"{L.LAB}/{lab.new_id('image')}.tar"
    r = image(lab, "build", "-r", "amphora.test", "-n", name, "-o", path, *args).ok()
    return path, r.out.strip()


def blobs(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}


def blob(files, digest):
    return files["blobs/sha256/" + digest.removeprefix("sha256:")]


def documents(path):
    """index.json, manifest and config of a tar with one manifest."""
    files = blobs(path)
    index = json.loads(files["index.json"])
    manifest = json.loads(blob(files, index["manifests"][0]["digest"]))
    return index, manifest, json.loads(blob(files, manifest["config"]["digest"])), files


def needs_component():
    if not os.path.exists(COMPONENT):
        raise Skip("no component was built: Rust has no wasm32-wasip2 here")


def needs(program):
    if shutil.which(program) is None:
        raise Skip(f"{program} is not installed")


def test_an_image_with_a_wasm_layer(lab):
    path, digest = built(lab, "-m", MODULE, "-t", "v1", "-e", "A=b", "--label", "c=d", "-u", "1000", "-w", "/tmp", "--cmd", "x",
                         "--entrypoint", "/demo.wasm")
    index, manifest, config, files = documents(path)
    target = index["manifests"][0]
    equal((target["digest"], target["annotations"]), (digest, {"io.containerd.image.name": "amphora.test/x:v1", "org.opencontainers.image.ref.name": "v1"}))
    with open(MODULE, "rb") as f:
        module = f.read()
    layer = manifest["layers"][0]
    equal((layer["mediaType"], layer["digest"], layer["size"]),
          (COMPONENT_LAYER, "sha256:" + hashlib.sha256(module).hexdigest(), len(module)))
    check(blob(files, layer["digest"]) == module, "the layer is not the module")
    equal((config["os"], config["architecture"], config["rootfs"]), ("wasip1", "wasm", {"type": "layers", "diff_ids": []}))
    run = config["config"]
    equal((run["Entrypoint"], run["Cmd"], run["User"], run["WorkingDir"]), (["/demo.wasm"], ["x"], "1000", "/tmp"))
    check("A=b" in run["Env"] and run["Labels"]["c"] == "d", f"environment and labels: {run}")
    equal((image(lab, "verify", path).code, image(lab, "verify", path).err), (0, ""))


def test_the_same_bytes_each_time(lab):
    args = ("-m", MODULE, "--compress", "gzip", "-f", L.GUESTS + ":/guests", "-p", "wasi/wasm", "-p", "linux/amd64")
    first, _ = built(lab, *args)
    for path in (MODULE, L.GUESTS):
        os.utime(path)
    second, _ = built(lab, *args)
    with open(first, "rb") as a, open(second, "rb") as b:
        check(a.read() == b.read(), "two builds of the same differ")


def test_configs_of_images_with_other_modules_differ(lab):
    # CRI takes the config's digest for the image's id.
    needs_component()
    digests = {documents(built(lab, "-l", f"application/wasm={module}", "--entrypoint", "/a")[0])[1]["config"]["digest"]
               for module in (MODULE, COMPONENT)}
    equal(len(digests), 2)


def test_an_artifact(lab):
    needs_component()
    path, _ = built(lab, "-a", "-m", COMPONENT)
    _, manifest, config, _ = documents(path)
    equal((manifest["config"]["mediaType"], manifest["layers"][0]["mediaType"]), ("application/vnd.wasm.config.v0+json", "application/wasm"))
    equal((config["os"], config["architecture"], config["layerDigests"]), ("wasip2", "wasm", [manifest["layers"][0]["digest"]]))
    check(any(n.startswith("wasi:cli/run@") for n in config["component"]["exports"]), f"exports: {config['component']}")
    check(any(n.startswith("wasi:cli/environment@") for n in config["component"]["imports"]), f"imports: {config['component']}")
    image(lab, "verify", path).ok()


def test_components_of_a_directory(lab):
    folder = f"{L.LAB}/components"
    os.makedirs(folder, exist_ok=True)
    for name in ("b.wasm", "a.wasm"):
        shutil.copy(MODULE, f"{folder}/{name}")
    with open(folder + "/ignored.txt", "w", encoding="utf-8") as f:
        f.write("no module")
    _, manifest, config, _ = documents(built(lab, "-c", folder)[0])
    equal([layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]], ["a.wasm", "b.wasm"])
    equal(config["config"]["Entrypoint"], ["/a.wasm"])


def test_an_index_of_platforms(lab):
    path, digest = built(lab, "-m", MODULE, "-p", "wasi/wasm", "-p", "wasip1/wasm")
    files = blobs(path)
    index = json.loads(blob(files, digest))
    equal([(m["platform"]["os"], m["platform"]["architecture"]) for m in index["manifests"]], [("wasi", "wasm"), ("wasip1", "wasm")])
    equal(image(lab, "inspect", path).ok().out.count("wasm layers"), 2)
    image(lab, "verify", path).ok()


def test_compressed_layers(lab):
    for packing, magic in (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd")):
        path, _ = built(lab, "-l", f"application/wasm+{packing}={MODULE}", "-f", f"{MODULE}:/data/x.wasm", "--compress", packing)
        _, manifest, config, files = documents(path)
        equal([layer["mediaType"] for layer in manifest["layers"]],
              [f"application/vnd.oci.image.layer.v1.tar+{packing}", f"application/wasm+{packing}"])
        for layer in manifest["layers"]:
            check(blob(files, layer["digest"]).startswith(magic), f"{layer['mediaType']} is not {packing}")
        equal(len(config["rootfs"]["diff_ids"]), 1)
        image(lab, "verify", path).ok()


def test_files_of_an_ordinary_layer(lab):
    path, _ = built(lab, "--tar", "-m", MODULE, "-f", f"{MODULE}:/opt/x/y.wasm:640")
    _, manifest, config, files = documents(path)
    equal((config["os"], config["architecture"]), ("linux", "amd64"))
    layer = blob(files, manifest["layers"][0]["digest"])
    equal(config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(layer).hexdigest()])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        modes = {m.name: (m.mode, m.uid, m.mtime) for m in tar.getmembers()}
    equal(modes, {"demo.wasm": (0o755, 0, 0), "opt": (0o755, 0, 0), "opt/x": (0o755, 0, 0), "opt/x/y.wasm": (0o640, 0, 0)})


def test_what_is_refused(lab):
    for args, words in (
            (["-m", "/etc/passwd"], "/etc/passwd is neither a WebAssembly module nor a component"),
            ([], "one of --module, --layer, --components and --file is needed"),
            (["-m", MODULE, "-c", L.GUESTS], "--module and --components exclude each other"),
            (["-m", MODULE, "-a", "--env", "A=b"], "an artifact's config has no words for a container"),
            (["-m", MODULE, "-a", "-m", MODULE], "an artifact has one module"),
            (["-m", MODULE, "-l", f"application/wasm={MODULE}"], "two modules are called demo.wasm"),
            (["-m", MODULE, "-p", "wasm"], 'platform "wasm" is not OS/ARCHITECTURE'),
            (["-l", MODULE], "is not MEDIATYPE=FILE"),
            (["-m", MODULE, "-f", "x:/../y"], 'a destination with ".."'),
            (["-m", MODULE, "-e", "A"], '--env "A" is not NAME=VALUE'),
            (["-m", MODULE, "--frobnicate"], "flag provided but not defined: -frobnicate")):
        r = image(lab, "build", "-r", "r", "-n", "n", "-o", "/tmp/never.tar", *args)
        equal(r.code, 1, " ".join(args))
        contains(r.err, words)
        check(not os.path.exists("/tmp/never.tar"), "a refused build left a file")
    contains(image(lab, "build", "-m", MODULE).err, "--repo, --name and --out-path are needed")
    contains(image(lab, "frobnicate").err, "build, inspect or verify")


def changed(path, change):
    """A copy of a tar whose files went through `change` (a function of name and bytes; nothing: left out)."""
    out = path + ".changed"
    with tarfile.open(out, "w") as tar:
        for name, body in blobs(path).items():
            body = change(name, body)
            if body is not None:
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return out


def test_verify_sees_what_is_wrong(lab):
    path, _ = built(lab, "-m", MODULE, "-f", f"{MODULE}:/data")
    _, manifest, _, _ = documents(path)
    ordinary, wasm = ("blobs/sha256/" + layer["digest"].removeprefix("sha256:") for layer in manifest["layers"])

    def flip(name, at):
        return lambda n, b: b if n != name else b[:at] + bytes([b[at] ^ 1]) + b[at + 1:]

    def drop(name):
        return lambda n, b: None if n == name else b
    for change, words in ((flip(wasm, 500), "its bytes have the digest"), (flip(ordinary, 2000), "its bytes have the digest"),
                          (drop(wasm), "is missing"), (drop("oci-layout"), "no oci-layout"), (drop("index.json"), "no index.json"),
                          (lambda n, b: b + b" " if n == wasm else b, "bytes, not")):
        r = image(lab, "verify", changed(path, change))
        equal(r.code, 1, words)
        contains(r.err, words)
    contains(image(lab, "inspect", "/etc/passwd").err, "Unrecognized archive format")


def test_verify_unpacks_layers(lab):
    """A config that names another diff_id, and a wasm layer that is none, with all digests right."""
    layer = b"no module at all"
    text = f"{L.LAB}/text"
    with open(text, "wb") as f:
        f.write(layer)
    path, _ = built(lab, "-l", f"application/wasm={text}", "--cmd", "x")
    contains(image(lab, "verify", path).err, "neither module nor component")
    path, _ = built(lab, "--tar", "-m", MODULE, "--compress", "gzip")
    index, manifest, config, files = documents(path)
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]

    def put(body):
        digest = hashlib.sha256(body).hexdigest()
        files["blobs/sha256/" + digest] = body
        return {"digest": "sha256:" + digest, "size": len(body)}
    for old in (manifest["config"]["digest"], index["manifests"][0]["digest"]):
        del files["blobs/sha256/" + old.removeprefix("sha256:")]
    manifest["config"].update(put(json.dumps(config).encode()))
    index["manifests"][0].update(put(json.dumps(manifest).encode()))
    files["index.json"] = json.dumps(index).encode()
    with tarfile.open(path, "w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    contains(image(lab, "verify", path).err, "unpacked it is not the config's sha256:000")


def test_verify_wants_titles_of_several_layers(lab):
    """With them an entrypoint means one, and libraries have their names."""
    with open(MODULE, "rb") as f:
        module = f.read()
    path = f"{L.LAB}/titles.tar"

    def problems(*titles):
        images.write_wasm(path, "amphora.test/titles:1", [("application/wasm", module + bytes([0, 2, 1, 97 + n]), title)
                                                          for n, title in enumerate(titles)])
        return image(lab, "verify", path)
    problems("").ok()
    problems("a.wasm", "b.wasm").ok()
    contains(problems("a.wasm", "b.wasm", "a.wasm").err, 'another wasm layer is titled "a.wasm", too')
    contains(problems("a.wasm", "").err, "without a title nobody can name it")


def test_skopeo_takes_them(lab):
    needs("skopeo")
    needs_component()
    for name, args in (("layers", ["-m", MODULE]), ("artifact", ["-a", "-m", COMPONENT]),
                       ("tar", ["--tar", "-m", MODULE, "--compress", "gzip"]), ("index", ["-m", MODULE, "-p", "wasi/wasm", "-p", "linux/amd64"])):
        path, digest = built(lab, *args)
        out = f"{L.LAB}/skopeo-{name}"
        raw = L.command(["skopeo", "inspect", "--raw", f"oci-archive:{path}"]).ok().out
        equal("sha256:" + hashlib.sha256(raw.encode()).hexdigest(), digest, name)
        L.command(["skopeo", "copy", "-q", "--all", f"oci-archive:{path}", f"oci:{out}:copy"]).ok()
        with open(out + "/index.json", encoding="utf-8") as f:
            equal(json.load(f)["manifests"][0]["digest"], digest, f"{name}: what skopeo has copied")


def test_umoci_takes_them(lab):
    needs("umoci")
    path, _ = built(lab, "--tar", "-m", MODULE, "--compress", "gzip", "-e", "A=b", "-f", f"{MODULE}:/data/x")
    layout, out = f"{L.LAB}/umoci-layout", f"{L.LAB}/umoci-bundle"
    os.makedirs(layout)
    subprocess.run(["tar", "-xf", path, "-C", layout], check=True)
    L.command(["umoci", "unpack", "--image", layout + ":latest", out]).ok()
    with open(MODULE, "rb") as a, open(out + "/rootfs/demo.wasm", "rb") as b, open(out + "/rootfs/data/x", "rb") as c:
        module = a.read()
        check(module == b.read() and module == c.read(), "umoci unpacked other bytes")
    with open(out + "/config.json", encoding="utf-8") as f:
        process = json.load(f)["process"]
    check(process["args"] == ["/demo.wasm"] and "A=b" in process["env"], f"umoci's spec: {process}")


def test_ctr_takes_an_ordinary_one_and_it_runs(lab):
    Cli(lab).needs_controller("cpu")  # ctr run sets cpu shares
    path, digest = built(lab, "--tar", "-m", MODULE, name="by-tar")
    lab.ctr("images", "import", path).ok()
    contains(lab.ctr("images", "ls").ok().out, digest)
    equal(lab.run(L.AMPHORA, "amphora.test/by-tar:latest", "/demo.wasm", "echo", "from", "a", "tar").ok().out, "from a tar\n")
