/* SPDX-License-Identifier: Apache-2.0 */
/* libamphora-compiler-wamr.so: checks a module and writes what the engine loads. Runs in the limited
 * compile process only. The artifact is the module itself, which the fast interpreter translates at load; with
 * `code: aot` it is machine code, made by another object that is linked to LLVM (aot/aot.h) and
 * loaded only then: 130 MB that other guests neither need nor wait for. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasm_export.h>

#include "wasm/engines/wamr/aot/aot.h"
#include "wasm/engines/wamr/module.h"
#include "wasm/engines/wamr/options.h"

#define MAX_MODULE (256u << 20)

static const wamr_aot* aot;

static uint32_t capabilities(void) {
  return AMPHORA_CAP_MODULES | AMPHORA_CAP_THREADS | AMPHORA_CAP_COMPILE;
}

static int start(amphora_error* error) {
  static bool started;
  if (started) return AMPHORA_OK;
  RuntimeInitArgs args;
  memset(&args, 0, sizeof args);
  args.mem_alloc_type = Alloc_With_System_Allocator;
  if (!wasm_runtime_full_init(&args)) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "start WAMR: not enough memory");
  }
  wasm_runtime_set_log_level(WASM_LOG_LEVEL_FATAL);
  started = true;
  return AMPHORA_OK;
}

/* `imports`: also whether WAMR has what it imports. */
static int look_at(amphora_bytes in, bool imports, amphora_error* error) {
  static const uint8_t component[] = {0, 'a', 's', 'm', 0x0d, 0, 1, 0};
  if (in.size >= sizeof component && memcmp(in.data, component, sizeof component) == 0) {
    return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED, "a component: engine wamr runs modules only");
  }
  if (in.size < 8 || memcmp(in.data, component, 4) != 0) {
    return wamr_fail(error, AMPHORA_ERR_INVALID,
                     "not a WebAssembly module; engine wamr takes no text");
  }
  if (in.size > MAX_MODULE) {
    return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED, "engine wamr takes modules up to %u MiB",
                     MAX_MODULE >> 20);
  }
  int result = start(error);
  if (result != AMPHORA_OK) return result;
  uint8_t* copy = NULL;
  wasm_module_t module = NULL;
  result = wamr_load_copy(in, &copy, &module, error);
  if (result != AMPHORA_OK) return result;
  const int missing = imports ? wamr_check_imports(module, AMPHORA_ERR_IMPORTS, error) : AMPHORA_OK;
  wasm_runtime_unload(module);
  free(copy);
  return missing;
}

static int check(amphora_bytes in, amphora_error* error) { return look_at(in, false, error); }

static int write_artifact(int fd, const uint8_t* data, size_t size, amphora_error* error) {
  for (size_t at = 0; at < size;) {
    const ssize_t n = write(fd, data + at, size - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return wamr_fail(error, AMPHORA_ERR_SYSTEM, "write the artifact: %s", strerror(errno));
    at += (size_t)n;
  }
  return AMPHORA_OK;
}

/* The linker's words name what is missing: the object, or LLVM. */
static int load_aot(const amphora_config* config, amphora_error* error) {
  if (aot != NULL) return AMPHORA_OK;
  const bool known = config->size >= sizeof *config && config->directory != NULL;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/" WAMR_AOT_OBJECT, known ? config->directory : ".");
  void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (object == NULL) {
    return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED,
                     "option code: aot wants " WAMR_AOT_OBJECT
                     " and LLVM 19 (Debian: libllvm19), or use "
                     "code: interpreter: %s",
                     dlerror());
  }
  const wamr_aot_entry entry = (wamr_aot_entry)dlsym(object, WAMR_AOT_ENTRY);
  const wamr_aot* found = entry != NULL ? entry() : NULL;
  if (found == NULL || strcmp(found->version, WAMR_ENGINE_VERSION) != 0) {
    return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED,
                     "option code: aot: %s is not of WAMR " WAMR_ENGINE_VERSION, path);
  }
  const int result = found->start(error);
  if (result == AMPHORA_OK) aot = found;
  return result;
}

/* Before the process is limited, and before the cache is asked. */
static int prepare(const amphora_config* config, amphora_error* error) {
  wamr_options options;
  const int result = wamr_read_options(config, &options, error);
  return result == AMPHORA_OK && options.aot ? load_aot(config, error) : result;
}

static int compile(amphora_bytes in, int out_fd, const amphora_config* config,
                   amphora_error* error) {
  wamr_options options;
  int result = wamr_read_options(config, &options, error);
  if (result == AMPHORA_OK) result = look_at(in, true, error);
  amphora_bytes out = in;
  if (result == AMPHORA_OK && options.aot) result = load_aot(config, error);
  if (result == AMPHORA_OK && options.aot) result = aot->compile(in, wamr_cpu(), &out, error);
  if (result != AMPHORA_OK) return result;
  return write_artifact(out_fd, out.data, out.size, error);
}

static int load(const amphora_guest* guest, amphora_error* error) {
  (void)guest;
  return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED,
                   "this object compiles; libamphora-engine-wamr.so runs");
}

static int run(const amphora_guest* guest, int* exit_code, amphora_error* error) {
  (void)exit_code;
  return load(guest, error);
}

static const amphora_engine table = {
    .size = sizeof(amphora_engine),
    .abi_version = AMPHORA_ENGINE_ABI,
    .name = WAMR_ENGINE_NAME,
    .version = WAMR_ENGINE_VERSION,
    .capabilities = capabilities,
    .prepare = prepare,
    .compile = compile,
    .check = check,
    .load = load,
    .run = run,
    .cache_key = wamr_cache_key,
};

__attribute__((visibility("default"))) const amphora_engine* amphora_engine_entry(void) {
  return &table;
}
