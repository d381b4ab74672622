/* SPDX-License-Identifier: Apache-2.0 */
/* A module that is a library, a reactor: memory and constructors of its own, and the process's standard output. It
 * imports from square.wat. Built as math.wasm. */
#include <stdio.h>

__attribute__((import_module("square"), import_name("of"))) int square_of(int number);

static int initialized;
__attribute__((constructor)) static void initialize(void) { ++initialized; }

__attribute__((export_name("add"))) int add(int a, int b) {
  printf("math: initialized %d times\n", initialized);
  fflush(stdout);
  return a + b;
}

__attribute__((export_name("hypotenuse2"))) int hypotenuse2(int a, int b) {
  return square_of(a) + square_of(b);
}

__attribute__((export_name("fail"))) void fail(void) { __builtin_trap(); }
