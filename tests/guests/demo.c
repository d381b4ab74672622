/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of the tests and of ./dev demo: one source, built as a static native program and as a
 * WASI module, so that both kinds of container are asked the same questions. Verbs write to stdout;
 * complaints go to stderr. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <dirent.h>
#include <unistd.h>
#ifndef __wasm__
#include <signal.h>
#include <sys/mman.h>
#endif

extern char** environ;

static int complain(const char* what, const char* object) {
  fprintf(stderr, "demo: %s %s: %s\n", what, object, strerror(errno));
  return 1;
}

static int echo(int count, char** words) {
  for (int i = 0; i < count; i++) printf("%s%s", i ? " " : "", words[i]);
  printf("\n");
  return 0;
}

/* write FILE WORDS...: creates or truncates. */
static int write_file(int count, char** words) {
  FILE* file = fopen(words[0], "w");
  if (!file) return complain("open", words[0]);
  for (int i = 1; i < count; i++) fprintf(file, "%s%s", i > 1 ? " " : "", words[i]);
  fprintf(file, "\n");
  if (fclose(file) != 0) return complain("write", words[0]);
  return 0;
}

/* cat [FILE]: stdin when there is none. */
static int cat(int count, char** words) {
  char buffer[65536];
  int fd = count > 0 ? open(words[0], O_RDONLY) : 0;
  if (fd < 0) return complain("open", words[0]);
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) return complain("read", count > 0 ? words[0] : "stdin");
    if (n == 0) return 0;
    for (ssize_t done = 0; done < n;) {
      ssize_t m = write(1, buffer + done, (size_t)(n - done));
      if (m < 0) return complain("write", "stdout");
      done += m;
    }
  }
}

static int list(const char* path) {
  DIR* directory = opendir(path);
  if (!directory) return complain("open", path);
  for (struct dirent* e; (e = readdir(directory));) {
    if (e->d_name[0] != '.') printf("%s\n", e->d_name);
  }
  closedir(directory);
  return 0;
}

/* Takes memory a mebibyte at a time and touches it, until COUNT or the end. */
static int greedy(int mebibytes) {
  for (int i = 0; i < mebibytes; i++) {
    char* block = malloc(1 << 20);
    if (!block) {
      fprintf(stderr, "demo: malloc refused after %d MiB\n", i);
      return 3;
    }
    memset(block, 0x5a, 1 << 20);
    if (i % 16 == 15) {
      printf("%d MiB\n", i + 1);
      fflush(stdout);
    }
  }
  printf("had %d MiB\n", mebibytes);
  return 0;
}

static int pause_until_signal(void) {
#ifdef __wasm__
  for (;;) sleep(3600);
#else
  sigset_t set;
  int signal = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, NULL);
  printf("ready\n");
  fflush(stdout);
  sigwait(&set, &signal);
  return 0;
#endif
}

/* Exported by name: /app.wasm#greet calls it instead of main. */
#ifdef __wasm__
__attribute__((export_name("greet")))
#endif
void greet(void) {
  printf("greetings from an export\n");
  fflush(stdout);
}

volatile unsigned long spun;

/* Two frames that a backtrace must name. */
__attribute__((noinline)) static void inner_trap(void) { __builtin_trap(); }
__attribute__((noinline)) static void outer_trap(void) {
  fflush(stdout);
  inner_trap();
  printf("never\n");
}

int main(int argc, char** argv) {
  const char* verb = argc > 1 ? argv[1] : "hello";
  char** rest = argv + 2;
  int count = argc > 2 ? argc - 2 : 0;
  if (!strcmp(verb, "hello")) return puts("hello from the demo program") < 0;
  if (!strcmp(verb, "true")) return 0;
  if (!strcmp(verb, "echo")) return echo(count, rest);
  if (!strcmp(verb, "args")) {
    for (int i = 0; i < argc; i++) printf("%d=%s\n", i, argv[i]);
    return 0;
  }
  if (!strcmp(verb, "env")) {
    for (char** e = environ; e && *e; e++) printf("%s\n", *e);
    return 0;
  }
  if (!strcmp(verb, "exit") && count == 1) return atoi(rest[0]);
  if (!strcmp(verb, "write") && count >= 2) return write_file(count, rest);
  if (!strcmp(verb, "cat")) return cat(count, rest);
  if (!strcmp(verb, "ls") && count == 1) return list(rest[0]);
  if (!strcmp(verb, "pwd")) {
    char path[4096];
    if (!getcwd(path, sizeof path)) return complain("getcwd", ".");
    return puts(path) < 0;
  }
  if (!strcmp(verb, "err")) {
    fprintf(stderr, "to stderr\n");
    return puts("to stdout") < 0;
  }
  if (!strcmp(verb, "sleep") && count == 1) {
    struct timespec t = {atoi(rest[0]), (long)((atof(rest[0]) - atoi(rest[0])) * 1e9)};
    nanosleep(&t, NULL);
    return puts("slept") < 0;
  }
  if (!strcmp(verb, "daemon")) {
    for (int i = 1;; i++) {
      printf("running %d\n", i);
      fflush(stdout);
      struct timespec second = {1, 0};
      nanosleep(&second, NULL);
    }
  }
  if (!strcmp(verb, "spin")) {
    printf("spinning\n");
    fflush(stdout);
    for (;;) spun++;
  }
  if (!strcmp(verb, "trap")) {
    printf("about to trap\n");
    outer_trap();
  }
  if (!strcmp(verb, "greedy") && count == 1) return greedy(atoi(rest[0]));
  if (!strcmp(verb, "pause")) return pause_until_signal();
  fprintf(stderr, "demo: unknown verb '%s' or wrong number of words\n", verb);
  return 2;
}
