// SPDX-License-Identifier: Apache-2.0
/* What statically linked programs take in place of glibc's own (docs/decisions/0019-start-up-code.md). Nothing else
 * belongs here. */

/* Called before main to find $ORIGIN for dlopen(3): readlink(2) of /proc/self/exe, and a first malloc(3) before a
 * program can say how it wants its heap. No static program of ours opens a shared object; all ones is glibc's "unknown". */
const char* _dl_get_origin(void); /* NOLINT(bugprone-reserved-identifier): glibc's name */
const char* _dl_get_origin(void) { return (const char*)-1; }
