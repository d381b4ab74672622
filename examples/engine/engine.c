/* SPDX-License-Identifier: Apache-2.0 */
/* An engine in one file, built outside of amphora's tree against its installed header: what a host needs
 * that adds something to wasmtime (interfaces of its own, another packaging) and leaves WASI, compiling
 * and the cache to it. This one adds a layer type. README.md says how it is built and what to change. */
#include <dlfcn.h>
#include <stdio.h>

#include <amphora/engine.h>

#ifndef ENGINES
#define ENGINES "/usr/local/lib/amphora" /* where the engine that does the work is installed */
#endif
#ifdef COMPILER
#define ROLE "compiler"
#else
#define ROLE "engine"
#endif

static const amphora_engine* wasmtime;

/* What an image's layers may be, beside what every engine takes. */
static const char* const* layer_types(void) {
  static const char* const types[] = {"application/vnd.example.app.v1", NULL};
  return types;
}

/* In the container's process, after its set-up. Here a guest would be given more, or be refused. */
static int load(const amphora_guest* guest, amphora_error* error) {
  if (guest->args == NULL || guest->args[0] == NULL) {
    snprintf(error->text, error->capacity, "a guest of this engine wants a name: args[0]");
    return AMPHORA_ERR_INVALID;
  }
  return wasmtime->load(guest, error);
}

/* The one symbol that amphora-wasm asks for. NULL: this engine cannot be had here. */
const amphora_engine* amphora_engine_entry(void) {
  static amphora_engine table;
  void* object = dlopen(ENGINES "/libamphora-" ROLE "-wasmtime.so", RTLD_NOW | RTLD_LOCAL);
  const amphora_engine* (*entry)(void) = NULL;
  if (object != NULL) *(void**)&entry = dlsym(object, "amphora_engine_entry");
  wasmtime = entry != NULL ? entry() : NULL;
  if (wasmtime == NULL || wasmtime->abi_version != AMPHORA_ENGINE_ABI ||
      wasmtime->size < sizeof table) {
    return NULL;
  }
  table = *wasmtime;
  table.size = sizeof table;
  table.name = "example"; /* as in libamphora-engine-example.so */
  table.layer_types = layer_types;
  if (wasmtime->load != NULL) table.load = load;
  return &table;
}
