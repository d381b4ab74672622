/* SPDX-License-Identifier: Apache-2.0 */
/* See module.h. */
#include "wasm/engines/wamr/module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/engines/wamr/options.h"

int wamr_load_copy(amphora_bytes in, uint8_t** copy, wasm_module_t* module, amphora_error* error) {
  uint8_t* bytes = malloc(in.size);
  if (bytes == NULL) return wamr_fail(error, AMPHORA_ERR_SYSTEM, "%s", strerror(ENOMEM));
  memcpy(bytes, in.data, in.size);
  char text[200] = "";
  *module = wasm_runtime_load(bytes, (uint32_t)in.size, text, sizeof text);
  if (*module == NULL) {
    free(bytes);
    return wamr_fail(error, AMPHORA_ERR_INVALID, "%s", text);
  }
  *copy = bytes;
  return AMPHORA_OK;
}

int wamr_check_imports(wasm_module_t module, int result, amphora_error* error) {
  /* WAMR links a missing import to a function that traps; here it is known before start. */
  const int32_t count = wasm_runtime_get_import_count(module);
  for (int32_t i = 0; i < count; ++i) {
    wasm_import_t import;
    wasm_runtime_get_import_type(module, i, &import);
    /* Memories are linked when the module is instantiated (wasi-threads imports its own). */
    if (import.linked || import.kind == WASM_IMPORT_EXPORT_KIND_MEMORY) continue;
    return wamr_fail(error, result,
                     "unknown import: %s::%s; this engine offers wasi_snapshot_preview1 to modules",
                     import.module_name, import.name);
  }
  return AMPHORA_OK;
}
