/* SPDX-License-Identifier: Apache-2.0 */
/* See aot.h. WAMR's compiler learns how much stack each function takes from a file that LLVM writes, and
 * the limited process has no files: LLVM writes to descriptor 1 ("-"), which is a pipe to a thread here, and
 * WAMR reads what the thread has collected. */
#include "wasm/engines/wamr/aot/aot.h"

#include <aot_export.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasm_export.h>

#include "wasm/engines/wamr/module.h"
#include "wasm/engines/wamr/options.h"

/* A line for each function and its check, about 40 bytes. */
#define MAX_SIZES ((size_t)64 << 20)

static struct {
  int pipe[2];
  pthread_t thread;
  bool runs;
  char* text;
  size_t size;
  bool whole;
} sizes = {.pipe = {-1, -1}};

static void* collect(void* unused) {
  size_t room = 0;
  bool whole = true;
  for (;;) {
    if (sizes.size == room && room < MAX_SIZES) {
      room = room == 0 ? 65536 : room * 2;
      char* more = realloc(sizes.text, room);
      if (more == NULL) abort();
      sizes.text = more;
    }
    char rest[4096];
    const bool full = sizes.size == room;
    const ssize_t n = full ? read(sizes.pipe[0], rest, sizeof rest)
                           : read(sizes.pipe[0], sizes.text + sizes.size, room - sizes.size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (full)
      whole = false;
    else
      sizes.size += (size_t)n;
  }
  sizes.whole = whole;
  return unused;
}

static int start_collecting(amphora_error* error) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, (size_t)256 << 10);
  const int err = pthread_create(&sizes.thread, &small, collect, NULL);
  if (err != 0) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "code: aot: start a thread: %s", strerror(err));
  }
  sizes.runs = true;
  return AMPHORA_OK;
}

/* WAMR's fopen: of nothing but that file. */
FILE* __wrap_fopen(const char* name, const char* mode) {
  (void)name;
  (void)mode;
  if (!sizes.runs) return NULL;
  sizes.runs = false;
  close(STDOUT_FILENO);
  pthread_join(sizes.thread, NULL);
  return sizes.whole && sizes.size > 0 ? fmemopen(sizes.text, sizes.size, "r") : NULL;
}

/* What it tells of its settings has no reader. */
int __wrap_os_printf(const char* format, ...) {
  (void)format;
  return 0;
}

/* std::set_new_handler, by its name in the C++ ABI. */
typedef void (*new_handler)(void);
new_handler std_set_new_handler(new_handler) __asm__("_ZSt15set_new_handlerPFvvE");

/* LLVM is built without exceptions, so a denied `new` would end in words that do not say so. These do, and whoever
 * waits for the compile process knows them (wasm/compiler.cc). */
static void without_memory(void) {
  static const char text[] = "LLVM: out of memory\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) errno = 0;
  abort();
}

static int start(amphora_error* error) {
  if (sizes.pipe[0] >= 0) return AMPHORA_OK;
  if (pipe2(sizes.pipe, O_CLOEXEC) != 0 || dup2(sizes.pipe[1], STDOUT_FILENO) < 0) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "make a pipe: %s", strerror(errno));
  }
  close(sizes.pipe[1]);
  std_set_new_handler(without_memory);
  RuntimeInitArgs args;
  memset(&args, 0, sizeof args);
  args.mem_alloc_type = Alloc_With_System_Allocator;
  if (!wasm_runtime_full_init(&args) || !aot_compiler_init()) {
    return wamr_fail(error, AMPHORA_ERR_SYSTEM, "start WAMR's compiler: not enough memory");
  }
  wasm_runtime_set_log_level(WASM_LOG_LEVEL_FATAL);
  return AMPHORA_OK;
}

#if defined(__x86_64__)
static char architecture[] = "x86_64";
#elif defined(__aarch64__)
static char architecture[] = "aarch64";
#else
#error "which architecture the code is for"
#endif

/* Its code looks at each loop and call whether other threads want it to stop, so only where there are any. */
static bool wants_threads(wasm_module_t module) {
  const int32_t count = wasm_runtime_get_import_count(module);
  for (int32_t i = 0; i < count; ++i) {
    wasm_import_t import;
    wasm_runtime_get_import_type(module, i, &import);
    if (strcmp(import.module_name, "wasi") == 0 && strcmp(import.name, "thread-spawn") == 0)
      return true;
  }
  return false;
}

/* As the engine's loader is built (CMakeLists.txt), so that it takes all that is made here. */
static void set_options(AOTCompOption* options, const char* cpu) {
  memset(options, 0, sizeof *options);
  options->opt_level = 3;
  options->size_level = 3;
  options->output_format = AOT_FORMAT_FILE;
  options->target_arch = architecture;
  options->target_cpu = (char*)(uintptr_t)cpu;
  options->enable_bulk_memory = true;
  options->enable_bulk_memory_opt = true;
  options->enable_tail_call = true;
  options->enable_ref_types = true;
  options->enable_call_indirect_overlong = true;
  options->enable_extended_const = true;
  /* Memory: guard pages, as in the interpreter. The stack has none (CMakeLists.txt says why). */
  options->bounds_checks = 2;
  options->stack_bounds_checks = 1;
  options->stack_usage_file = "-";
}

static int failed(const char* doing, amphora_error* error) {
  const char* why = aot_get_last_error();
  static const char prefix[] = "Error: ";
  if (strncmp(why, prefix, sizeof prefix - 1) == 0) why += sizeof prefix - 1;
  return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED, "code: aot: %s: %s", doing,
                   *why != '\0' ? why : "failed without a word");
}

static int compile(amphora_bytes in, const char* cpu, amphora_bytes* out, amphora_error* error) {
  int result = start(error);
  if (result != AMPHORA_OK) return result;
  result = start_collecting(error);
  if (result != AMPHORA_OK) return result;
  uint8_t* copy = NULL; /* the process ends soon */
  wasm_module_t module = NULL;
  result = wamr_load_copy(in, &copy, &module, error);
  if (result != AMPHORA_OK) return result;
  AOTCompOption options;
  set_options(&options, cpu);
  options.enable_thread_mgr = wants_threads(module);
  aot_comp_data_t data = aot_create_comp_data(module, options.target_arch, options.enable_gc);
  if (data == NULL) return failed("read the module", error);
  aot_comp_context_t context = aot_create_comp_context(data, &options);
  if (context == NULL) return failed("start LLVM", error);
  if (!aot_compile_wasm(context)) return failed("compile", error);
  uint32_t size = 0;
  out->data = aot_emit_aot_file_buf(context, data, &size);
  out->size = size;
  return out->data != NULL ? AMPHORA_OK : failed("emit", error);
}

static const wamr_aot table = {WAMR_ENGINE_VERSION, start, compile};

__attribute__((visibility("default"))) const wamr_aot* amphora_wamr_aot_entry(void) {
  return &table;
}
