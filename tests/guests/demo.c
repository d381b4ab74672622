/* SPDX-License-Identifier: Apache-2.0 */
/* The program of the demo and of the container tests: one small program with a command for each thing
 * a container can be asked to do. Built as a module (WASI preview 1, Debian's wasi-libc) and as a
 * static native program, so that both kinds of container are asked the same questions. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifndef __wasm__
#include <signal.h>
#endif

extern char** environ;

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  return 1;
}

static void print_words(FILE* out, int count, char** words) {
  for (int i = 0; i < count; i++) fprintf(out, "%s%s", i ? " " : "", words[i]);
  fputc('\n', out);
}

static int copy(int from, const char* what) {
  char buffer[4096];
  for (;;) {
    ssize_t n = read(from, buffer, sizeof buffer);
    if (n == 0) return 0;
    if (n < 0) return fail(what);
    for (ssize_t done = 0; done < n;) {
      ssize_t written = write(1, buffer + done, (size_t)(n - done));
      if (written < 0) return fail("stdout");
      done += written;
    }
  }
}

static int read_file(const char* path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return fail(path);
  int code = copy(fd, path);
  close(fd);
  return code;
}

static int write_file(const char* path, int count, char** words) {
  FILE* file = fopen(path, "w");
  if (!file) return fail(path);
  print_words(file, count, words);
  return fclose(file) ? fail(path) : 0;
}

static int list(const char* path) {
  DIR* dir = opendir(path);
  if (!dir) return fail(path);
  for (struct dirent* entry; (entry = readdir(dir));) puts(entry->d_name);
  closedir(dir);
  return 0;
}

static int daemon_loop(void) {
  for (unsigned n = 1;; n++) {
    printf("tick %u\n", n);
    fflush(stdout);
    sleep(1);
  }
}

static int busy_loop(void) {
  for (volatile unsigned n = 0;; n++) {
  }
}

static int spin(void) {
  puts("spinning");
  fflush(stdout);
  return busy_loop();
}

/* Until SIGTERM or SIGINT, as a pod's pause program. */
static int pause_until_signal(void) {
#ifdef __wasm__
  for (;;) sleep(3600);
#else
  sigset_t set;
  int number = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, NULL);
  sigwait(&set, &number);
  return 0;
#endif
}

static int both_outputs(void) {
  fputs("to stderr\n", stderr);
  return puts("to stdout") < 0;
}

/* Takes 1 MiB at a time and touches every page, until malloc says no or the kernel ends us. */
static int eat(unsigned mebibytes) {
  const size_t step = 1 << 20;
  for (unsigned n = 0; n < mebibytes; n++) {
    volatile char* block = malloc(step); /* volatile: else clang drops it all */
    if (!block) {
      printf("malloc failed after %u MiB\n", n);
      return 1;
    }
    for (size_t i = 0; i < step; i += 4096) block[i] = (char)(n + 1);
    if (n % 16 == 15) {
      printf("%u MiB\n", n + 1);
      fflush(stdout);
    }
  }
  return 0;
}

/* Two named frames, for the backtrace. */
__attribute__((noinline)) static void inner_function(void) { __builtin_trap(); }
__attribute__((noinline)) static void outer_function(void) {
  inner_function();
  puts("not reached");
}

/* Where relative paths go: the guest's own idea of its directory, and a file found from it. */
static int cwd(const char* path) {
  char here[256];
  printf("getcwd %s\n", getcwd(here, sizeof here) ? here : strerror(errno));
  return read_file(path);
}

/* MODULE#named calls this one. */
#ifdef __wasm__
__attribute__((export_name("named")))
#endif
void named(void) {
  puts("named export");
  fflush(stdout);
}

static int usage(void) {
  fputs(
      "commands: echo WORDS, exit N, write FILE WORDS, read FILE, ls DIR, sleep SECONDS, daemon,\n"
      "          cat, env, args, busy, spin, hog, eat MEBIBYTES, trap, cwd FILE, stat FILE, "
      "random,\n"
      "          true, err, pause\n",
      stderr);
  return 2;
}

static int print_stat(const char* path) {
  struct stat st;
  if (stat(path, &st)) return fail(path);
  printf("%s %lld\n", S_ISDIR(st.st_mode) ? "dir" : "file", (long long)st.st_size);
  return 0;
}

/* Two containers must not share these. */
static int print_random(void) {
  unsigned char bytes[8];
  if (getentropy(bytes, sizeof bytes)) return fail("getentropy");
  for (size_t i = 0; i < sizeof bytes; i++) printf("%02x", bytes[i]);
  putchar('\n');
  return 0;
}

static int one_word(const char* command, const char* word) {
  if (!strcmp(command, "exit")) return atoi(word);
  if (!strcmp(command, "read")) return read_file(word);
  if (!strcmp(command, "ls")) return list(word);
  if (!strcmp(command, "stat")) return print_stat(word);
  if (!strcmp(command, "cwd")) return cwd(word);
  if (!strcmp(command, "eat")) return eat((unsigned)atoi(word));
  if (!strcmp(command, "sleep")) return (int)sleep((unsigned)atoi(word));
  return usage();
}

static int no_word(const char* command) {
  if (!strcmp(command, "daemon")) return daemon_loop();
  if (!strcmp(command, "cat")) return copy(0, "stdin");
  if (!strcmp(command, "busy")) return busy_loop();
  if (!strcmp(command, "hog")) return eat(~0u);
  if (!strcmp(command, "spin")) return spin();
  if (!strcmp(command, "pause")) return pause_until_signal();
  if (!strcmp(command, "err")) return both_outputs();
  if (!strcmp(command, "true")) return 0;
  if (!strcmp(command, "random")) return print_random();
  if (!strcmp(command, "env")) {
    for (char** e = environ; *e; e++) puts(*e);
    return 0;
  }
  if (!strcmp(command, "trap")) {
    outer_function();
    return 0;
  }
  return usage();
}

int main(int argc, char** argv) {
  if (argc < 2) return usage();
  const char* command = argv[1];
  if (!strcmp(command, "echo")) {
    print_words(stdout, argc - 2, argv + 2);
    fflush(stdout);
    fputs("exiting\n", stderr);
    return 0;
  }
  if (!strcmp(command, "args")) {
    for (int i = 0; i < argc; i++) puts(argv[i]);
    return 0;
  }
  if (!strcmp(command, "write") && argc >= 4) return write_file(argv[2], argc - 3, argv + 3);
  return argc == 3 ? one_word(command, argv[2]) : argc == 2 ? no_word(command) : usage();
}
