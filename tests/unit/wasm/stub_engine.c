/* SPDX-License-Identifier: Apache-2.0 */
/* An engine without WebAssembly, for tests of the host: what a real engine does with descriptors,
 * signals, memory and time, this one does when the first word of its "module" or the guest's second
 * argument says so. Built twice: as engine and, with STUB_COMPILER, as compiler. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "amphora/engine.h"

static char artifact[4096];

static int say(amphora_error* error, int result, const char* text) {
  snprintf(error->text, error->capacity, "%s", text);
  return result;
}

static uint32_t capabilities(void) { return AMPHORA_CAP_MODULES; }

/* As a real engine would: a handler of its own that must survive into the guests. */
static void on_fault(int signal) {
  static const char text[] = "stub: fault\n";
  (void)signal;
  (void)!write(2, text, sizeof text - 1);
  _exit(134);
}

static int prepare(const amphora_config* config, amphora_error* error) {
  for (const char* const* option = config->options; *option; option += 2) {
    if (strcmp(*option, "known") != 0) {
      snprintf(error->text, error->capacity, "unknown option \"%s\"; known: known", *option);
      return AMPHORA_ERR_OPTION;
    }
  }
  struct sigaction action = {.sa_handler = on_fault};
  sigaction(SIGSEGV, &action, NULL);
  return AMPHORA_OK;
}

static int load(const amphora_guest* guest, amphora_error* error) {
  ssize_t n = pread(guest->artifact_fd, artifact, sizeof artifact - 1, 0);
  if (n < 0) return say(error, AMPHORA_ERR_SYSTEM, "cannot read the artifact");
  if (strncmp(artifact, "STUB", 4) != 0)
    return say(error, AMPHORA_ERR_INVALID, "not a stub artifact");
  if (strstr(artifact, "unlinkable"))
    return say(error, AMPHORA_ERR_INVALID, "unknown import env.f");
  if (strstr(artifact, "hungry")) return say(error, AMPHORA_ERR_SYSTEM, "cannot reserve memory");
  if (guest->entry && strcmp(guest->entry, "main") != 0) {
    snprintf(error->text, error->capacity, "no export named \"%s\"", guest->entry);
    return AMPHORA_ERR_NOT_FOUND;
  }
  return AMPHORA_OK;
}

/* What libc caches about the process must be right in a clone. */
static int check_libc(void) {
  pthread_mutexattr_t attributes;
  pthread_mutex_t mutex;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex, &attributes);
  if (pthread_mutex_lock(&mutex) != 0) return 1;
  if (pthread_mutex_lock(&mutex) != EDEADLK) return 2;
  /* glibc writes its cached thread id into the owner field of such a mutex. */
  if (mutex.__data.__owner != (int)syscall(SYS_gettid)) return 3;
  pthread_mutex_unlock(&mutex);
  void* head = NULL;
  size_t size = 0;
  if (syscall(SYS_get_robust_list, 0, &head, &size) != 0 || !head) return 4;
  int* tid = NULL;
  if (prctl(40 /* PR_GET_TID_ADDRESS */, &tid, 0, 0, 0) == 0 && *tid != (int)syscall(SYS_gettid))
    return 5;
  return 0;
}

static atomic_int seen;
static void count(int signal) {
  (void)signal;
  atomic_fetch_add(&seen, 1);
}
static void* thread_main(void* argument) { return argument; }

static int print_fds(void) {
  for (int fd = 0; fd < 1024; fd++) {
    char path[64], target[512];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) continue;
    target[n] = 0;
    printf("%d %s\n", fd, target);
  }
  return 0;
}

static int cat(const char* path) {
  char buffer[8192];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 1;
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, (size_t)n, stdout);
  close(fd);
  return 0;
}

static int run(const amphora_guest* guest, int* exit_code, amphora_error* error) {
  const char* verb = guest->args[0] && guest->args[1] ? guest->args[1] : "";
  const char* word = *verb && guest->args[2] ? guest->args[2] : "";
  *exit_code = 0;
  if (!strcmp(verb, "echo")) {
    for (const char* const* arg = guest->args + 2; *arg; arg++) printf("%s\n", *arg);
  } else if (!strcmp(verb, "env")) {
    for (const char* const* entry = guest->env; *entry; entry++) printf("%s\n", *entry);
  } else if (!strcmp(verb, "exit")) {
    *exit_code = atoi(word);
  } else if (!strcmp(verb, "preopens")) {
    for (size_t i = 0; i < guest->preopen_count; i++) {
      struct stat file;
      fstat(guest->preopens[i].fd, &file);
      printf("%s %lu\n", guest->preopens[i].guest, (unsigned long)file.st_ino);
    }
  } else if (!strcmp(verb, "libc")) {
    *exit_code = check_libc();
    signal(SIGUSR1, count);
    raise(SIGUSR1);
    if (atomic_load(&seen) != 1) *exit_code = 10;
    pthread_t thread;
    void* result = NULL;
    if (pthread_create(&thread, NULL, thread_main, &seen) != 0 ||
        pthread_join(thread, &result) != 0 || result != &seen) {
      *exit_code = 11;
    }
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int s = 1; s < 65; s++)
      if (sigismember(&mask, s) == 1) *exit_code = 12;
  } else if (!strcmp(verb, "busy")) {
    printf("busy\n");
    fflush(stdout);
    for (volatile unsigned long n = 0;; n++) {
    }
  } else if (!strcmp(verb, "fault")) {
    volatile int* nowhere = (volatile int*)16;
    *nowhere = 1;
  } else if (!strcmp(verb, "abort")) {
    abort();
  } else if (!strcmp(verb, "fds")) {
    print_fds();
  } else if (!strcmp(verb, "cat")) {
    *exit_code = cat(word);
  } else if (!strcmp(verb, "trap")) {
    fprintf(stderr, "wasm trap: unreachable\n");
    return AMPHORA_ERR_TRAP;
  } else if (!strcmp(verb, "broken")) {
    return say(error, AMPHORA_ERR_SYSTEM, "the engine is broken");
  }
  fflush(stdout);
  return AMPHORA_OK;
}

static uint64_t cache_key(const amphora_config* config) {
  uint64_t key = 7;
  for (const char* const* option = config->options; *option; option++) {
    for (const char* c = *option; *c; c++) key = key * 31 + (unsigned char)*c;
  }
  return key;
}

#ifdef STUB_COMPILER
static int write_all(int fd, const void* data, size_t size) {
  for (const char* at = data; size > 0;) {
    ssize_t n = write(fd, at, size);
    if (n <= 0) return -1;
    at += n;
    size -= (size_t)n;
  }
  return 0;
}

/* Reports what the walls around the process let through: an empty text says nothing. */
static void probe(char* text, size_t capacity) {
  text[0] = 0;
  if (open("/etc/passwd", O_RDONLY) >= 0) strncat(text, " open", capacity);
  if (socket(AF_INET, SOCK_STREAM, 0) >= 0) strncat(text, " socket", capacity);
  if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
    strncat(text, " exec-memory", capacity);
  }
  if (geteuid() == 0) strncat(text, " root", capacity);
  if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0) strncat(text, " fork", capacity);
  if (opendir("/")) strncat(text, " list-root", capacity);
  pthread_t thread;
  if (pthread_create(&thread, NULL, thread_main, NULL) != 0)
    strncat(text, " no-threads", capacity);
  else
    pthread_join(thread, NULL);
}

static int compile(amphora_bytes in, int out_fd, const amphora_config* config,
                   amphora_error* error) {
  (void)config;
  char head[64] = {0};
  memcpy(head, in.data, in.size < 63 ? in.size : 63);
  if (strstr(head, "malformed"))
    return say(error, AMPHORA_ERR_INVALID, "unexpected byte at offset 3");
  if (strstr(head, "walls")) {
    char text[200];
    probe(text, sizeof text - 1);
    return say(error, AMPHORA_ERR_INVALID, *text ? text : "walls hold");
  }
  if (strstr(head, "greedy")) {
    for (;;) {
      char* block = malloc(1 << 20);
      if (!block) {
        fprintf(stderr, "memory allocation of 1048576 bytes failed");
        abort();
      }
      memset(block, 1, 1 << 20);
    }
  }
  if (strstr(head, "endless"))
    for (volatile unsigned long n = 0;; n++) {
    }
  if (strstr(head, "crash")) abort();
  if (strstr(head, "slow")) usleep(300000);
  if (write_all(out_fd, "STUB", 4) != 0 || write_all(out_fd, in.data, in.size) != 0) {
    return say(error, AMPHORA_ERR_SYSTEM, "cannot write the artifact");
  }
  return AMPHORA_OK;
}

static int link_parts(const amphora_part* main, const amphora_part* libraries, size_t count,
                      int out_fd, const amphora_config* config, amphora_error* error) {
  (void)config;
  dprintf(out_fd, "STUB%s=%.*s", main->name, (int)main->bytes.size, (const char*)main->bytes.data);
  for (size_t i = 0; i < count; ++i) {
    if (libraries[i].bytes.size == 0) return say(error, AMPHORA_ERR_INVALID, "an empty library");
    dprintf(out_fd, " %s=%.*s", libraries[i].name, (int)libraries[i].bytes.size,
            (const char*)libraries[i].bytes.data);
  }
  return AMPHORA_OK;
}

static int check(amphora_bytes in, amphora_error* error) {
  if (in.size > 0 && in.data[0] == '(') return AMPHORA_OK;
  return say(error, AMPHORA_ERR_INVALID, "expected `(`");
}
#endif

static const amphora_engine table = {
#ifdef STUB_OLD
    .size = offsetof(amphora_engine, link),
#else
    .size = sizeof table,
#endif
    .abi_version = AMPHORA_ENGINE_ABI,
    .name = "stub",
    .version = "1",
    .capabilities = capabilities,
    .prepare = prepare,
#ifdef STUB_COMPILER
    .compile = compile,
    .check = check,
    .link = link_parts,
#endif
    .load = load,
    .run = run,
    .cache_key = cache_key,
};

__attribute__((visibility("default"))) const amphora_engine* amphora_engine_entry(void) {
  return &table;
}
