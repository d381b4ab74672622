/* SPDX-License-Identifier: Apache-2.0 */
/* A program that imports from another module (math.c). linked.wasm add A B, hypotenuse2 A B, or trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FROM_MATH(name) __attribute__((import_module("math"), import_name(name)))
FROM_MATH("add") int add(int a, int b);
FROM_MATH("hypotenuse2") int hypotenuse2(int a, int b);
FROM_MATH("fail") void fail(void);

int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "add") == 0) {
    printf("%d\n", add(atoi(argv[2]), atoi(argv[3])));
    return 0;
  }
  if (argc == 4 && strcmp(argv[1], "hypotenuse2") == 0) {
    printf("%d\n", hypotenuse2(atoi(argv[2]), atoi(argv[3])));
    return 0;
  }
  if (argc == 2 && strcmp(argv[1], "trap") == 0) fail();
  return 64;
}
