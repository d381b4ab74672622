/* SPDX-License-Identifier: Apache-2.0 */
/* What libamphora-compiler-wamr.so asks of libamphora-aot-wamr.so, which is linked to LLVM and so is loaded
 * by it only when a guest wants code of its own (option `code: aot`). Both are built together. */
#ifndef AMPHORA_WAMR_AOT_H_
#define AMPHORA_WAMR_AOT_H_

#include "amphora/engine.h"

#define WAMR_AOT_OBJECT "libamphora-aot-wamr.so"
#define WAMR_AOT_ENTRY "amphora_wamr_aot_entry"

typedef struct wamr_aot {
  const char* version; /* of WAMR; the loading side refuses another one than its own */
  /* All that takes a file or a descriptor; before the process is limited. */
  int (*start)(amphora_error* error);
  /* Once a process. `in` is a module that the engine's loader has taken, `cpu` LLVM's name of what the code may
   * use. On AMPHORA_OK `out` is the artifact, malloc'ed by this object and never freed. */
  int (*compile)(amphora_bytes in, const char* cpu, amphora_bytes* out, amphora_error* error);
} wamr_aot;

typedef const wamr_aot* (*wamr_aot_entry)(void);

#endif /* AMPHORA_WAMR_AOT_H_ */
