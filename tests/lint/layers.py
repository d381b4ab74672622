#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point downward only (docs/architecture.md), and a third-party library is known to the files
that need it and no others. Prints each line that breaks a rule; exit code 1 then."""

import re
import subprocess
import sys

# Room -> the rooms it may include beside itself. A room is the longest of these prefixes.
CELLAR = {"executor/base", "executor/oci"}
WORK = CELLAR | {"executor/init", "executor/setup", "executor/cgroup", "executor/hooks", "executor/criu", "detect"}
HALL = {"executor/store", "executor/runtime"}
SEAM = {"executor"}  # executor/executor.h: the interface between hall and guest rooms
MAY = {
    "executor/base": set(),
    "executor/oci": {"executor/base"},
    # The child: system call wrappers and constants only.
    "executor/init": {"executor/base"},
    "executor/setup": CELLAR | {"executor/init", "executor/cgroup"},
    # cgroup and setup know each other's values: Host there, Cgroup here.
    "executor/cgroup": CELLAR | {"executor/setup"},
    "executor/hooks": CELLAR,
    "executor/criu": {"executor/base"},
    "detect": CELLAR,
    "executor": WORK,
    "native": WORK | SEAM,
    "wasm": WORK | SEAM | {"amphora", "wasm/sha256.h", "wasm/content_protocol.h"},
    "executor/store": CELLAR,
    "executor/runtime": WORK | SEAM | {"executor/store"},
    "executor/cli": WORK | SEAM | HALL | {"native", "wasm", "executor/cli/features.h", "executor/cli/options.h"},
    # The one header of the command that is for the other roof, too: both print the same document.
    "executor/cli/features.h": set(),
    # The only code beside the guest: the interpreter of steps, the cellar's base, and wasm/.
    "wasm/host": {"executor/base", "executor/init", "wasm", "amphora"},
    # An engine in C or C++ is built on the public header and nothing else of ours.
    "wasm/engines": {"amphora"},
    # The parser of options is for amphora-image, too.
    "executor/cli/options.h": {"executor/base"},
    # Images as files: a program of its own behind the command's verb `image`.
    "image": {"executor/base", "wasm/sha256.h", "executor/cli/options.h"},
    # Images in containerd's content store, read and written by its API; a program of its own, too.
    "content": {"executor/base", "image", "wasm/sha256.h", "wasm/content_protocol.h"},
    "wasm/sha256.h": {"executor/base"},
    "wasm/content_protocol.h": set(),
    "shim": WORK | SEAM | HALL | {"native", "wasm", "wasm/sha256.h", "executor/cli/features.h"},
    "amphora": set(),
    "benchmarks": CELLAR | {"executor/setup", "executor/init", "wasm", "amphora"},
}
# Header pattern -> (who may include it in a .cc, who may in a .h).
NOBODY = r"(?!)"
OTHERS = [
    (r"nlohmann/json_fwd", r"executor/oci/|executor/cli/|executor/runtime/", r"executor/oci/"),
    # state and spec are JSON; the command's reports and the shim's recovery read no JSON elsewhere.
    (r"nlohmann/", r"executor/oci/|executor/cli/|image/|tests/", NOBODY),
    (r"nghttp2/", r"content/grpc\.cc$", NOBODY),
    (r"(zlib|zstd)\.h$", r"content/bytes\.cc$", NOBODY),
    (r"archive(_entry)?\.h$", r"image/archive\.cc$", NOBODY),
    (r"spdlog/", r"executor/cli/|shim/|tests/", NOBODY),
    (r"fmt/", r"(executor|detect|native|wasm|shim|tests)/", NOBODY),
    (r"boost/process", r"executor/hooks/hooks\.cc$", NOBODY),
    # shim/ is a roof which nobody includes; its loop is asio's.
    (r"boost/asio", r"shim/|executor/hooks/hooks\.cc$|tests/", r"shim/"),
    (r"boost/", r"shim/|executor/hooks/hooks\.cc$", NOBODY),
    (r"google/protobuf|.*\.pb\.h", r"shim/|content/|tests/unit/shim/|tests/fuzz/", r"shim/|tests/unit/shim/"),
    (r"seccomp\.h", r"executor/setup/seccomp(_[a-z]+)?\.cc$|wasm/host/confine\.cc$|tests/", NOBODY),
    (r"sys/capability\.h", r"tests/", NOBODY),
    (r"libmount/", r"executor/setup/[a-z_]+\.cc$", NOBODY),
    (r"g(test|mock)/", r"tests/", r"tests/"),
    (r"(iostream|regex|filesystem)$", r"tests/|executor/hooks/hooks\.cc$", r"tests/"),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def room_of(path):
    best = ""
    for room in MAY:
        if (path + "/").startswith(room + "/") and len(room) > len(best):
            best = room
    return best


def check(path, bad):
    room = "" if path.startswith("tests/") else room_of(path.rsplit("/", 1)[0])
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            target = m[2]
            where = f"{path}:{number}"
            for pattern, sources, headers in OTHERS:
                if re.match(pattern, target):
                    if not re.match(headers if path.endswith(".h") else sources, path):
                        bad.append(f"{where}: {target} does not belong here")
                    break
            if m[1] != '"' or not room or target.endswith(".pb.h"):
                continue
            other = room_of(target if target in MAY else target.rsplit("/", 1)[0]) if "/" in target else "?"
            if other == "?":
                bad.append(f"{where}: {target}: includes are written from the root")
            elif other and other != room and other not in MAY[room]:
                bad.append(f"{where}: {room} may not include {other} ({target})")


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", "*.h", "*.cc", "*.c"],
                           capture_output=True, text=True, check=True).stdout.split()
    bad = []
    for path in files:
        check(path, bad)
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
