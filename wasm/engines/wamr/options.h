/* SPDX-License-Identifier: Apache-2.0 */
/* What the objects of this engine share: results with their texts, the options of a container, the
 * cache key. Wording and rules are those of the other engines, so that an option means the same. */
#ifndef AMPHORA_WAMR_OPTIONS_H_
#define AMPHORA_WAMR_OPTIONS_H_

#include <stdbool.h>
#include <stdint.h>

#include "amphora/engine.h"

#define WAMR_ENGINE_NAME "wamr"

typedef struct wamr_options {
  uint64_t memory_max; /* bytes of linear memory in all, 0: no limit */
  bool aot;            /* machine code made by LLVM in place of the interpreter */
} wamr_options;

/* Writes one line into `error` (may be NULL) and returns `code`. Control characters become blanks. */
int wamr_fail(amphora_error* error, int code, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads the options; AMPHORA_ERR_OPTION names an unknown key beside the known ones. */
int wamr_read_options(const amphora_config* config, wamr_options* options, amphora_error* error);

/* What ahead-of-time code may use of this machine's processor, as LLVM spells it: a level of the psABI and
 * not all that is there, so that machines of one kind share artifacts. */
const char* wamr_cpu(void);

/* Depends on the engine's version, on what it was built with, and for ahead-of-time code on the processor. */
uint64_t wamr_cache_key(const amphora_config* config);

#endif /* AMPHORA_WAMR_OPTIONS_H_ */
