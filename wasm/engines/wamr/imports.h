/* SPDX-License-Identifier: Apache-2.0 */
/* What a module imports that WAMR does not have; both objects ask. */
#ifndef AMPHORA_WASM_ENGINES_WAMR_IMPORTS_H_
#define AMPHORA_WASM_ENGINES_WAMR_IMPORTS_H_

#include <wasm_export.h>

#include "amphora/engine.h"

/* AMPHORA_OK, or `result` with a text that names the first one. */
int wamr_check_imports(wasm_module_t module, int result, amphora_error* error);

#endif /* AMPHORA_WASM_ENGINES_WAMR_IMPORTS_H_ */
