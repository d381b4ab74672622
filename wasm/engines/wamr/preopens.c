/* SPDX-License-Identifier: Apache-2.0 */
/* See preopens.h. */
#include "wasm/engines/wamr/preopens.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <platform_api_extension.h>
#include <platform_api_vmcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "wasm/engines/wamr/options.h"

static const amphora_guest* answering;
static size_t next_preopen;

int check_preopens(const amphora_guest* guest, amphora_error* error) {
  for (size_t i = 0; i < guest->preopen_count; ++i) {
    const amphora_preopen* preopen = &guest->preopens[i];
    struct stat file;
    int err = 0;
    if (fstat(preopen->fd, &file) != 0)
      err = errno;
    else if (!S_ISDIR(file.st_mode))
      err = ENOTDIR;
    if (err != 0) {
      return wamr_fail(error, AMPHORA_ERR_SYSTEM, "preopen %s: %s", preopen->guest, strerror(err));
    }
    if (preopen->read_only != 0) {
      return wamr_fail(error, AMPHORA_ERR_UNSUPPORTED,
                       "preopen %s: engine wamr has no read-only preopens; mount it read-only",
                       preopen->guest);
    }
    if (strlen(preopen->guest) >= PATH_MAX) {
      return wamr_fail(error, AMPHORA_ERR_SYSTEM, "preopen %.40s...: %s", preopen->guest,
                       strerror(ENAMETOOLONG));
    }
  }
  return AMPHORA_OK;
}

const char** begin_preopens(const amphora_guest* guest) {
  const char** names = calloc(guest->preopen_count + 1, sizeof *names);
  if (names == NULL) abort();
  for (size_t i = 0; i < guest->preopen_count; ++i) names[i] = guest->preopens[i].guest;
  answering = guest;
  next_preopen = 0;
  return names;
}

void end_preopens(const char** names) {
  answering = NULL;
  free(names);
}

/* The name stays what it is; check_preopens has made sure that it fits. */
char* __wrap_os_realpath(const char* path, char* resolved) {
  if (answering == NULL) return NULL;
  return strcpy(resolved, path);
}

__wasi_errno_t __wrap_os_open_preopendir(const char* path, os_file_handle* out) {
  (void)path;
  if (answering == NULL || next_preopen >= answering->preopen_count) return __WASI_EBADF;
  *out = fcntl(answering->preopens[next_preopen++].fd, F_DUPFD_CLOEXEC, 3);
  return *out >= 0 ? __WASI_ESUCCESS : __WASI_EMFILE;
}
