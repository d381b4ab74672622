#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libc_start.py --compiler CC --out OBJECT: glibc's start-up code for static programs without its questions about caches.

Before main, a program linked with glibc asks the processor for its caches, some sixty times `cpuid` on Intel's. Only a
hypervisor can answer, so in a virtual machine each costs an exit: 0.4 ms in all where it was measured, a tenth of a container's
life. The answers choose from which size on memcpy goes past the caches, which no program of ours ever reaches
(docs/decisions/0019-start-up-code.md).

Takes libc-start.o out of the compiler's libc.a, lets the functions that ask return at once, and proves the result by a program that
copies and fills memory of all sizes. Writes OBJECT and ends with 0; with 3 and a reason on stdout when this libc is another one than
those known, and then the programs are linked as usual."""

import argparse
import os
import struct
import subprocess
import sys
import tempfile

# What is said of every cache: 1 MiB. Everything that glibc derives from it is a threshold of speed.
RETURN_1_MIB = bytes.fromhex("b800001000c3")  # mov $0x100000,%eax; ret
RETURN = bytes.fromhex("c3")
# long handle_*(int name, ...): the size of one cache; void get_common_cache_info(long *shared, ...): its share for one thread.
PATCHES = {"handle_intel": RETURN_1_MIB, "handle_amd": RETURN_1_MIB, "handle_zhaoxin": RETURN_1_MIB, "get_common_cache_info": RETURN}
NEEDED = {"handle_intel", "get_common_cache_info"}
KNOWN = ("2.36",)

CHECK = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnu/libc-version.h>
int main(void) {
  for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1) {
    unsigned char* from = malloc(n + 1);
    unsigned char* to = malloc(n + 1);
    if (from == NULL || to == NULL) return 1;
    for (size_t i = 0; i < n; i++) from[i] = (unsigned char)(i * 131 + n);
    to[n] = 77;
    memcpy(to, from, n);
    if (memcmp(to, from, n) != 0 || to[n] != 77) return 1;
    memmove(to + 1, to, n - 1);
    if (memcmp(to + 1, from, n - 1) != 0 || to[0] != from[0]) return 1;
    memset(to, 5, n);
    for (size_t i = 0; i < n; i++) if (to[i] != 5) return 1;
    if (to[n] != 77) return 1;
    free(from);
    free(to);
  }
  puts(gnu_get_libc_version());
  return 0;
}
"""


class Unknown(Exception):
    """This libc is none that is known here."""


def sections(elf):
    """[(type, offset, size, link, info, entry size)] of an ELF64 file."""
    at, = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    out = []
    for i in range(count):
        _, kind, _, _, offset, length, link, info, _, entry = struct.unpack_from("<IIQQQQIIQQ", elf, at + i * size)
        out.append((kind, offset, length, link, info, entry))
    return out


def functions(elf, table):
    """{name: (section, offset in it, size)} of the functions defined in an object."""
    symbols = next(s for s in table if s[0] == 2)
    names = table[symbols[3]][1]
    found = {}
    for at in range(symbols[1], symbols[1] + symbols[2], symbols[5]):
        name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", elf, at)
        if info & 15 == 2 and 0 < section < 0xff00:
            start = names + name
            found[elf[start:elf.index(b"\0", start)].decode()] = (section, value, size)
    return found


def relocated(elf, table, section):
    """[(first, last + 1)] of what the linker writes in a section."""
    out = []
    for kind, offset, length, _, info, entry in table:
        if kind != 4 or info != section:
            continue
        for at in range(offset, offset + length, entry):
            where, what = struct.unpack_from("<QI", elf, at)
            out.append((where, where + (8 if what == 1 else 4)))  # R_X86_64_64; all others in code are words of 4
    return out


def with_jump(code, size, written):
    """[(offset in the function, bytes)] that make it `code`, beside what the linker writes (first and last + 1, as offsets in it);
    None if there is no room."""
    def free(first, length):
        return first + length <= size and not any(begin < first + length and end > first for begin, end in written)
    if free(0, len(code)):
        return [(0, code)]
    for at in range(2, 128):
        if free(0, 2) and free(at, len(code)):
            return [(0, bytes([0xeb, at - 2])), (at, code)]
    return None


def patched(elf):
    if elf[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", elf, 18)[0] != 62:
        raise Unknown("not an x86-64 object")
    table = sections(elf)
    out = bytearray(elf)
    done = set()
    for name, (section, offset, size) in functions(elf, table).items():
        plain = name.split(".")[0]
        code = PATCHES.get(plain)
        if code is None:
            continue
        pieces = with_jump(code, size, [(begin - offset, end - offset) for begin, end in relocated(elf, table, section)])
        if pieces is None:
            raise Unknown(f"{name} is not as it was")
        start = table[section][1] + offset
        for at, piece in pieces:
            out[start + at:start + at + len(piece)] = piece
        done.add(plain)
    if not NEEDED <= done:
        raise Unknown(f"no function {', '.join(sorted(NEEDED - done))} in it")
    return bytes(out)


def proven(compiler, made, directory):
    """Links the check with the object and runs it; the libc's version."""
    source, program = directory + "/check.c", directory + "/check"
    with open(source, "w", encoding="utf-8") as f:
        f.write(CHECK)
    built = subprocess.run([compiler, "-O1", "-static-pie", "-fPIE", "-o", program, source, made], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise Unknown("it does not link: " + built.stderr.strip().splitlines()[-1])
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode != 0:
        raise Unknown(f"a program with it ends with {ran.returncode}")
    return ran.stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--out", required=True)
    line = parser.parse_args()
    archive = subprocess.run([line.compiler, "-print-file-name=libc.a"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as directory:
        try:
            if not os.path.isabs(archive):
                raise Unknown("no libc.a")
            member = subprocess.run(["ar", "p", archive, "libc-start.o"], capture_output=True, check=False).stdout
            made = directory + "/libc-start.o"
            with open(made, "wb") as f:
                f.write(patched(member))
            version = proven(line.compiler, made, directory)
            if version not in KNOWN:
                raise Unknown(f"glibc {version}, known is {', '.join(KNOWN)}")
            with open(made, "rb") as f, open(line.out, "wb") as g:
                g.write(f.read())
        except (Unknown, StopIteration, struct.error) as e:
            print(e or "not an object")
            return 3
    print(f"glibc {version}")
    return 0


sys.exit(main())
