/* SPDX-License-Identifier: Apache-2.0 */
/* bench_compile LIBRARY MODULE: the compiler's object, loaded and asked in this process, without limits, container or
 * cache. Prints the milliseconds of the compile alone. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "amphora/engine.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;
  const amphora_engine* (*entry)(void) =
      (const amphora_engine* (*)(void))dlsym(library, "amphora_engine_entry");
  const int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
  struct stat file;
  if (entry == NULL || fd < 0 || fstat(fd, &file) != 0) return fprintf(stderr, "%s\n", argv[2]), 1;
  void* bytes = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  const int out = memfd_create("artifact", MFD_CLOEXEC);
  if (bytes == MAP_FAILED || out < 0) return 1;
  const amphora_engine* engine = entry();
  const char* const none[] = {NULL};
  const amphora_config config = {sizeof config, none, NULL};
  char text[400] = "";
  amphora_error error = {text, sizeof text};
  if (engine->prepare != NULL && engine->prepare(&config, &error) != AMPHORA_OK)
    return fprintf(stderr, "%s\n", text), 1;
  const amphora_bytes in = {bytes, (size_t)file.st_size};
  const double begun = now();
  if (engine->compile(in, out, &config, &error) != AMPHORA_OK)
    return fprintf(stderr, "%s\n", text), 1;
  printf("%.2f\n", now() - begun);
  return 0;
}
