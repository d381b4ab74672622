# SPDX-License-Identifier: Apache-2.0
"""OCI images without a registry: an Image is a handful of files in one layer, written as an OCI
layout in a tar that `ctr images import` takes. Output is deterministic, so digests stay."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile

PASSWD = (b"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n"
          b"someone:x:1000:1000::/:/bin/sh\n")
GROUP = b"root:x:0:\nwww-data:x:33:\nsomeone:x:1000:\nextra:x:50000:someone\n"
DIRECTORIES = ("bin dev etc home proc root run sbin sys usr usr/bin usr/sbin usr/local "
               "usr/local/bin var var/run data")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = "application/vnd.oci.image."


def _digest(blob):
    return "sha256:" + hashlib.sha256(blob).hexdigest()


class Layer:
    """A tar in memory."""

    def __init__(self):
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w")

    def _add(self, name, kind, mode, body=b"", link="", uid=0):
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type, info.mode, info.size, info.linkname, info.uid, info.gid = (
            kind, mode, len(body), link, uid, uid)
        self._tar.addfile(info, io.BytesIO(body))

    def directory(self, name, mode=0o755, uid=0):
        self._add(name, tarfile.DIRTYPE, mode, uid=uid)

    def file(self, name, body, mode=0o755, uid=0):
        self._add(name, tarfile.REGTYPE, mode, body, uid=uid)

    def hardlink(self, name, target):
        self._add(name, tarfile.LNKTYPE, 0o755, link=target.lstrip("/"))

    def symlink(self, name, target):
        self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def base(self):
        """The directories and accounts every image has."""
        for name in DIRECTORIES.split():
            self.directory(name)
        self.directory("tmp", 0o1777)
        self.file("etc/passwd", PASSWD, 0o644)
        self.file("etc/group", GROUP, 0o644)
        return self

    def busybox(self):
        # Applets are hard links: a test that masks one must not mask them all, as symlinks would.
        with open("/bin/busybox", "rb") as f:
            self.file("bin/busybox", f.read())
        names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True,
                               check=True).stdout.split()
        for name in names:
            if name != "busybox":
                self.hardlink("bin/" + name, "bin/busybox")
        return self

    def close(self):
        self._tar.close()
        return self._bytes.getvalue()


def write_image(path, name, layer, entrypoint=(), cmd=(), env=(), user="", cwd=""):
    """Writes `path`, an importable tar of one image called `name`."""
    raw = layer.close()
    packed = gzip.compress(raw, compresslevel=1, mtime=0)
    config = {"Env": [PATH, *env], "User": user}
    if entrypoint:
        config["Entrypoint"] = list(entrypoint)
    if cmd:
        config["Cmd"] = list(cmd)
    if cwd:
        config["WorkingDir"] = cwd
    conf = json.dumps({"architecture": "amd64", "os": "linux", "config": config,
                       "rootfs": {"type": "layers", "diff_ids": [_digest(raw)]}}).encode()

    def describe(kind, blob, **more):
        return {"mediaType": _OCI + kind, "digest": _digest(blob), "size": len(blob), **more}

    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": _OCI + "manifest.v1+json",
        "config": describe("config.v1+json", conf),
        "layers": [describe("layer.v1.tar+gzip", packed)]}).encode()
    index = json.dumps({
        "schemaVersion": 2, "mediaType": _OCI + "index.v1+json",
        "manifests": [describe("manifest.v1+json", manifest, annotations={
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]})]}).encode()
    with tarfile.open(path, "w") as tar:
        for member, blob in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                             ("index.json", index),
                             ("blobs/" + _digest(packed).replace(":", "/"), packed),
                             ("blobs/" + _digest(conf).replace(":", "/"), conf),
                             ("blobs/" + _digest(manifest).replace(":", "/"), manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))


def _with_packing(media_type, blob):
    if media_type.endswith("gzip"):
        return gzip.compress(blob, compresslevel=1, mtime=0)
    if media_type.endswith("+zstd"):
        # A frame of raw blocks: no zstd needs to be there to write one.
        pieces = [blob[at:at + 100000] for at in range(0, len(blob), 100000)]
        return b"\x28\xb5\x2f\xfd\xa0" + len(blob).to_bytes(4, "little") + b"".join(
            ((len(piece) << 3) | (n + 1 == len(pieces))).to_bytes(3, "little") + piece for n, piece in enumerate(pieces))
    return blob


def write_wasm(path, name, layers, entrypoint=("/app.wasm",), platforms=(), os_name="wasip1", artifact=False, files=None, env=()):
    """Writes `path`, an importable tar of one image with wasm layers: (media type, bytes, title) each, behind `files` (a
    Layer) as an ordinary one. With platforms (OS/ARCHITECTURE) the name stands for an index of a manifest each.
    Independent of `amphora image`. Returns the digests of the layers as they are stored."""
    blobs, described, diff_ids = {}, [], []

    def put(media_type, blob, **more):
        blobs[_digest(blob)] = blob
        return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob), **more}
    if files is not None:
        raw = files.close()
        diff_ids.append(_digest(raw))
        described.append(put(_OCI + "layer.v1.tar", raw))
    for media_type, blob, title in layers:
        described.append(put(media_type, _with_packing(media_type, blob), annotations={"org.opencontainers.image.title": title}))
    digests = [layer["digest"] for layer in described]

    def manifest(platform):
        system, architecture = platform.split("/")
        if artifact:
            config = put("application/vnd.wasm.config.v0+json", json.dumps({
                "created": "1970-01-01T00:00:00Z", "os": system, "architecture": architecture, "layerDigests": digests}).encode())
        else:
            config = put(_OCI + "config.v1+json", json.dumps({
                "os": system, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "config": {"Entrypoint": list(entrypoint), "Env": [PATH, *env], "Labels": {"layers": " ".join(digests)}}}).encode())
        return put(_OCI + "manifest.v1+json", json.dumps({
            "schemaVersion": 2, "mediaType": _OCI + "manifest.v1+json", "config": config, "layers": described}).encode(),
            platform={"os": system, "architecture": architecture})
    manifests = [manifest(p) for p in platforms or [f"{os_name}/wasm"]]
    target = manifests[0]
    if platforms:
        target = put(_OCI + "index.v1+json", json.dumps({
            "schemaVersion": 2, "mediaType": _OCI + "index.v1+json", "manifests": manifests}).encode())
    target.pop("platform", None)
    target["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
    blobs_and_head = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps({
        "schemaVersion": 2, "mediaType": _OCI + "index.v1+json", "manifests": [target]}).encode())]
    blobs_and_head += [("blobs/" + digest.replace(":", "/"), blob) for digest, blob in blobs.items()]
    with tarfile.open(path, "w") as tar:
        for member, blob in blobs_and_head:
            info = tarfile.TarInfo(member)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
    return digests
