/* SPDX-License-Identifier: Apache-2.0 */
/* See options.h. */
#include "wasm/engines/wamr/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <sys/platform/x86.h>
#endif

static const char known[] =
    "known options: backtrace (off), code (interpreter, aot), memory-max (bytes)";

int wamr_fail(amphora_error* error, int code, const char* format, ...) {
  if (error == NULL || error->text == NULL || error->capacity == 0) return code;
  va_list values;
  va_start(values, format);
  vsnprintf(error->text, error->capacity, format, values);
  va_end(values);
  for (char* c = error->text; *c != '\0'; ++c) {
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
  }
  for (size_t n = strlen(error->text); n > 0 && error->text[n - 1] == ' '; --n) {
    error->text[n - 1] = '\0';
  }
  return code;
}

static int read_bytes(const char* key, const char* value, uint64_t* bytes, amphora_error* error) {
  char* end = NULL;
  errno = 0;
  const unsigned long long number = strtoull(value, &end, 10);
  if (*value < '0' || *value > '9' || *end != '\0' || errno != 0) {
    return wamr_fail(error, AMPHORA_ERR_INVALID, "option %s: \"%s\" is not a number of bytes", key,
                     value);
  }
  *bytes = number;
  return AMPHORA_OK;
}

int wamr_read_options(const amphora_config* config, wamr_options* options, amphora_error* error) {
  memset(options, 0, sizeof *options);
  if (config == NULL || config->options == NULL) return AMPHORA_OK;
  for (const char* const* word = config->options; *word != NULL; word += 2) {
    const char* key = word[0];
    const char* value = word[1];
    if (value == NULL) {
      return wamr_fail(error, AMPHORA_ERR_INVALID, "option %s has no value", key);
    }
    int result = AMPHORA_OK;
    if (strcmp(key, "memory-max") == 0) {
      result = read_bytes(key, value, &options->memory_max, error);
    } else if (strcmp(key, "backtrace") == 0) {
      if (strcmp(value, "off") != 0) {
        result =
            wamr_fail(error, AMPHORA_ERR_INVALID,
                      "option backtrace: \"%s\" is not off, the only one engine wamr has", value);
      }
    } else if (strcmp(key, "code") == 0) {
      options->aot = strcmp(value, "aot") == 0;
      if (!options->aot && strcmp(value, "interpreter") != 0) {
        result = wamr_fail(error, AMPHORA_ERR_INVALID,
                           "option code: \"%s\" is not interpreter or aot", value);
      }
    } else {
      result = wamr_fail(error, AMPHORA_ERR_OPTION, "unknown option %s; %s", key, known);
    }
    if (result != AMPHORA_OK) return result;
  }
  return AMPHORA_OK;
}

/* By libc, which asked the processor at start: in a virtual machine each question takes microseconds. */
const char* wamr_cpu(void) {
#ifdef __x86_64__
  const bool v2 = CPU_FEATURE_ACTIVE(CMPXCHG16B) && CPU_FEATURE_ACTIVE(LAHF64_SAHF64) &&
                  CPU_FEATURE_ACTIVE(POPCNT) && CPU_FEATURE_ACTIVE(SSE3) &&
                  CPU_FEATURE_ACTIVE(SSSE3) && CPU_FEATURE_ACTIVE(SSE4_1) &&
                  CPU_FEATURE_ACTIVE(SSE4_2);
  const bool v3 = v2 && CPU_FEATURE_ACTIVE(AVX) && CPU_FEATURE_ACTIVE(AVX2) &&
                  CPU_FEATURE_ACTIVE(BMI1) && CPU_FEATURE_ACTIVE(BMI2) &&
                  CPU_FEATURE_ACTIVE(F16C) && CPU_FEATURE_ACTIVE(FMA) &&
                  CPU_FEATURE_ACTIVE(LZCNT) && CPU_FEATURE_ACTIVE(MOVBE);
  return v3 ? "x86-64-v3" : v2 ? "x86-64-v2" : "x86-64";
#else
  return "generic";
#endif
}

/* FNV-1a. */
static uint64_t hash(uint64_t key, const char* text) {
  for (; *text != '\0'; ++text) key = (key ^ (unsigned char)*text) * 0x100000001b3u;
  return key;
}

uint64_t wamr_cache_key(const amphora_config* config) {
  wamr_options options;
  uint64_t key =
      hash(0xcbf29ce484222325u, WAMR_ENGINE_NAME " " WAMR_ENGINE_VERSION " " WAMR_ENGINE_BUILD);
  if (wamr_read_options(config, &options, NULL) == AMPHORA_OK && options.aot) {
    key = hash(hash(key, " aot "), wamr_cpu());
  }
  return key;
}
