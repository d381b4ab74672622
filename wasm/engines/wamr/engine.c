/* SPDX-License-Identifier: Apache-2.0 */
/* libamphora-engine-wamr.so: runs core modules with WASI preview 1 by WAMR's fast interpreter or from
 * its ahead-of-time code (which of them the artifact is says its head), in the container's own process. Belongs here: the table and what load and
 * run do. Guest code runs in `run` only: instantiating may call a start function, so `load` stops at
 * a loaded and checked module. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasm_export.h>

#include "wasm/engines/wamr/module.h"
#include "wasm/engines/wamr/options.h"
#include "wasm/engines/wamr/preopens.h"

/* Operand stack of the interpreter. Taken from the heap, so untouched pages cost nothing. */
#define STACK_SIZE (1024u * 1024u)
#define PAGE_SIZE 65536u
#define MAX_ARTIFACT (256u << 20)
/* Of the process's own stack, for ahead-of-time code, which checks each call against its end. */
#define NATIVE_STACK_MAX ((rlim_t)8 << 20)
#define NATIVE_STACK_KEPT ((rlim_t)256 << 10) /* above us, and for what the code calls */

/* Those that make a trap of an access beyond the memory. */
static const int trap_signals[] = {SIGSEGV, SIGBUS};
#define TRAP_SIGNALS (sizeof trap_signals / sizeof trap_signals[0])

static struct {
  wasm_module_t module;
  uint8_t* bytes; /* WAMR keeps pointers into it and writes to it */
  wamr_options options;
  struct sigaction traps[TRAP_SIGNALS];
} guest;

static uint32_t capabilities(void) { return AMPHORA_CAP_MODULES | AMPHORA_CAP_THREADS; }

static int prepare(const amphora_config* config, amphora_error* error) {
  wamr_options options;
  const int result = wamr_read_options(config, &options, error);
  if (result != AMPHORA_OK) return result;
  RuntimeInitArgs args;
  memset(&args, 0, sizeof args);
  args.mem_alloc_type = Alloc_With_System_Allocator;
  args.max_thread_num = 256;
  if (!wasm_runtime_full_init(&args)) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "start WAMR: not enough memory");
  }
  wasm_runtime_set_log_level(WASM_LOG_LEVEL_FATAL);
  for (size_t i = 0; i < TRAP_SIGNALS; ++i) sigaction(trap_signals[i], NULL, &guest.traps[i]);
  return AMPHORA_OK;
}

/* Read and not mapped: the loader changes the bytes. */
static int read_artifact(int fd, uint32_t* size, amphora_error* error) {
  struct stat file;
  if (fstat(fd, &file) != 0) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "read the artifact: %s", strerror(errno));
  }
  if (file.st_size == 0)
    return wamr_fail(error, AMPHORA_ERR_INVALID, "read the artifact: the file is empty");
  if (file.st_size > MAX_ARTIFACT) {
    return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED, "engine wamr takes artifacts up to %u MiB",
                     MAX_ARTIFACT >> 20);
  }
  guest.bytes = malloc((size_t)file.st_size);
  if (guest.bytes == NULL)
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "read the artifact: %s", strerror(ENOMEM));
  for (off_t at = 0; at < file.st_size;) {
    const ssize_t n = pread(fd, guest.bytes + at, (size_t)(file.st_size - at), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return wamr_fail(error, AMPHORA_ERR_SYSTEM, "read the artifact: %s",
                       n < 0 ? strerror(errno) : "it became shorter");
    }
    at += n;
  }
  *size = (uint32_t)file.st_size;
  return AMPHORA_OK;
}

static int check_entry(const char* entry, amphora_error* error) {
  const int32_t count = wasm_runtime_get_export_count(guest.module);
  for (int32_t i = 0; i < count; ++i) {
    wasm_export_t found;
    wasm_runtime_get_export_type(guest.module, i, &found);
    if (strcmp(found.name, entry) != 0) continue;
    if (found.kind != WASM_IMPORT_EXPORT_KIND_FUNC) {
      return wamr_fail(error, AMPHORA_ERR_INVALID, "export %s is not a function", entry);
    }
    const uint32_t results = wasm_func_type_get_result_count(found.u.func_type);
    const bool code =
        results == 1 && wasm_func_type_get_result_valkind(found.u.func_type, 0) == WASM_I32;
    if (wasm_func_type_get_param_count(found.u.func_type) != 0 || (results != 0 && !code)) {
      return wamr_fail(
          error, AMPHORA_ERR_INVALID,
          "export %s has type with %u parameters and %u results; an entry takes none and "
          "gives none or an i32 exit code",
          entry, wasm_func_type_get_param_count(found.u.func_type), results);
    }
    return AMPHORA_OK;
  }
  return wamr_fail(error, AMPHORA_ERR_NOT_FOUND, "the module exports no function %s", entry);
}

static const char* entry_of(const amphora_guest* in) {
  return in->entry != NULL ? in->entry : "_start";
}

static int load(const amphora_guest* in, amphora_error* error) {
  int result = wamr_read_options(in->config, &guest.options, error);
  if (result == AMPHORA_OK) result = check_preopens(in, error);
  uint32_t size = 0;
  if (result == AMPHORA_OK) result = read_artifact(in->artifact_fd, &size, error);
  if (result != AMPHORA_OK) return result;
  char text[200] = "";
  guest.module = wasm_runtime_load(guest.bytes, size, text, sizeof text);
  if (guest.module == NULL)
    return wamr_fail(error, AMPHORA_ERR_INVALID, "load the artifact: %s", text);
  result = wamr_check_imports(guest.module, AMPHORA_ERR_INVALID, error);
  if (result == AMPHORA_OK) result = check_entry(entry_of(in), error);
  return result;
}

/* "Exception: " is WAMR's own prefix; the rest is the specification's word for the trap. */
static const char* plain(const char* exception) {
  static const char prefix[] = "Exception: ";
  if (strncmp(exception, prefix, sizeof prefix - 1) == 0) exception += sizeof prefix - 1;
  /* The words every engine uses. */
  if (strcmp(exception, "unreachable") == 0) return "wasm `unreachable` instruction executed";
  if (strstr(exception, "stack overflow") != NULL) return "call stack exhausted";
  return exception;
}

static int report_trap(const amphora_guest* in, const char* exception, amphora_error* error) {
  const char* text = plain(exception);
  char line[300];
  const int n = snprintf(line, sizeof line, "amphora-wasm: wasm trap: %s\n", text);
  struct pollfd ready = {in->stdio[2], POLLOUT, 0};
  if (in->stdio[2] >= 0 && n > 0 && poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0) {
    const size_t size = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    if (write(in->stdio[2], line, size) < 0) errno = 0; /* a reader that has gone */
  }
  return wamr_fail(error, AMPHORA_ERR_TRAP, "wasm trap: %s", text);
}

static uint32_t count_of(const char* const* list) {
  uint32_t n = 0;
  while (list[n] != NULL) ++n;
  return n;
}

/* WAMR takes a missing stream for the process's own. A pipe without its other end is what a closed one
 * is to the guest: no input, and nobody to write to. */
static int stream_of(int fd, int which) {
  int ends[2];
  if (fd >= 0 || pipe2(ends, O_CLOEXEC) != 0) return fd;
  close(ends[which == 0 ? 1 : 0]);
  return ends[which == 0 ? 0 : 1];
}

/* Bytes of linear memory that the guest may have; 0: no limit. */
static uint64_t limit_of(const amphora_guest* in) {
  const uint64_t limit = guest.options.memory_max;
  const uint64_t given = in->memory_limit;
  return given != 0 && (limit == 0 || given < limit) ? given : limit;
}

/* WAMR gives a module what it begins with, whatever the limit is. */
static bool begins_within(wasm_module_inst_t instance, uint64_t limit, amphora_error* error) {
  const wasm_memory_inst_t memory = wasm_runtime_get_default_memory(instance);
  if (limit == 0 || memory == NULL) return true;
  const uint64_t begins = wasm_memory_get_cur_page_count(memory) * PAGE_SIZE;
  if (begins <= limit) return true;
  wamr_fail(error, AMPHORA_ERR_SYSTEM,
            "instantiate: the module begins with %llu bytes of memory, the limit is %llu",
            (unsigned long long)begins, (unsigned long long)limit);
  return false;
}

static wasm_module_inst_t instantiate(const amphora_guest* in, amphora_error* error) {
  struct InstantiationArgs2* args = NULL;
  if (!wasm_runtime_instantiation_args_create(&args)) {
    wamr_fail(error, AMPHORA_ERR_SYSTEM, "instantiate: not enough memory");
    return NULL;
  }
  const uint64_t limit = limit_of(in);
  wasm_runtime_instantiation_args_set_default_stack_size(args, STACK_SIZE);
  wasm_runtime_instantiation_args_set_host_managed_heap_size(args, 0);
  if (limit != 0) {
    /* 0 would mean no limit; 4 GiB are all that a module can address. */
    uint64_t pages = limit / PAGE_SIZE;
    if (pages == 0) pages = 1;
    if (pages > 65536) pages = 65536;
    wasm_runtime_instantiation_args_set_max_memory_pages(args, (uint32_t)pages);
  }
  /* The interface is const, WAMR's is not; it copies both. */
  wasm_runtime_instantiation_args_set_wasi_arg(args, (char**)(uintptr_t)in->args,
                                               (int)count_of(in->args));
  wasm_runtime_instantiation_args_set_wasi_env(args, (const char**)(uintptr_t)in->env,
                                               count_of(in->env));
  wasm_runtime_instantiation_args_set_wasi_stdio(
      args, stream_of(in->stdio[0], 0), stream_of(in->stdio[1], 1), stream_of(in->stdio[2], 2));
  const char** names = begin_preopens(in);
  wasm_runtime_instantiation_args_set_wasi_dir(args, names, (uint32_t)in->preopen_count, NULL, 0);
  char text[200] = "";
  wasm_module_inst_t instance = wasm_runtime_instantiate_ex2(guest.module, args, text, sizeof text);
  end_preopens(names);
  wasm_runtime_instantiation_args_destroy(args);
  if (instance == NULL) {
    wamr_fail(error, AMPHORA_ERR_SYSTEM, "instantiate: %s", text);
    return NULL;
  }
  return begins_within(instance, limit, error) ? instance : NULL;
}

/* What prepare made, in case that signals were reset since, as exec does. */
static void catch_traps(void) {
  for (size_t i = 0; i < TRAP_SIGNALS; ++i) sigaction(trap_signals[i], &guest.traps[i], NULL);
}

/* The end of this thread's stack. Not by libc, which reads it from /proc. */
static uint8_t* stack_end(void) {
  struct rlimit limit;
  rlim_t size = NATIVE_STACK_MAX;
  if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < size) size = limit.rlim_cur;
  const rlim_t usable = size > 2 * NATIVE_STACK_KEPT ? size - NATIVE_STACK_KEPT : size / 2;
  return (uint8_t*)__builtin_frame_address(0) - usable;
}

static int run(const amphora_guest* in, int* exit_code, amphora_error* error) {
  catch_traps();
  wasm_module_inst_t instance = instantiate(in, error);
  if (instance == NULL) return AMPHORA_ERR_SYSTEM;
  wasm_exec_env_t environment = wasm_runtime_create_exec_env(instance, STACK_SIZE);
  wasm_function_inst_t entry = wasm_runtime_lookup_function(instance, entry_of(in));
  if (environment == NULL || entry == NULL) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "run %s: not enough memory", entry_of(in));
  }
  wasm_runtime_set_native_stack_boundary(environment, stack_end());
  uint32_t result[1] = {0};
  const bool ended = wasm_runtime_call_wasm(environment, entry, 0, result);
  const char* exception = wasm_runtime_get_exception(instance);
  if (!ended || exception != NULL) {
    if (exception == NULL) exception = "unknown";
    if (strstr(exception, "wasi proc exit") == NULL) return report_trap(in, exception, error);
    *exit_code = (int)wasm_runtime_get_wasi_exit_code(instance);
    return AMPHORA_OK;
  }
  *exit_code = wasm_func_get_result_count(entry, instance) == 1 ? (int)result[0] : 0;
  return AMPHORA_OK;
}

static const amphora_engine table = {
    .size = sizeof(amphora_engine),
    .abi_version = AMPHORA_ENGINE_ABI,
    .name = WAMR_ENGINE_NAME,
    .version = WAMR_ENGINE_VERSION,
    .capabilities = capabilities,
    .prepare = prepare,
    .load = load,
    .run = run,
    .cache_key = wamr_cache_key,
};

__attribute__((visibility("default"))) const amphora_engine* amphora_engine_entry(void) {
  return &table;
}
