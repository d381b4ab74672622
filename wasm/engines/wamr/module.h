/* SPDX-License-Identifier: Apache-2.0 */
/* A module loaded to be looked at or compiled, and what it imports that WAMR does not have; several objects ask. */
#ifndef AMPHORA_WASM_ENGINES_WAMR_MODULE_H_
#define AMPHORA_WASM_ENGINES_WAMR_MODULE_H_

#include <wasm_export.h>

#include "amphora/engine.h"

/* WAMR's loader writes to its input, so it gets a copy, which is the caller's to free after the module. */
int wamr_load_copy(amphora_bytes in, uint8_t** copy, wasm_module_t* module, amphora_error* error);

/* AMPHORA_OK, or `result` with a text that names the first one. */
int wamr_check_imports(wasm_module_t module, int result, amphora_error* error);

#endif /* AMPHORA_WASM_ENGINES_WAMR_MODULE_H_ */
