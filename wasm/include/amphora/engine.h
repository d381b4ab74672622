/* SPDX-License-Identifier: Apache-2.0 */
/* The plug-in interface of a WebAssembly engine: a shared object libamphora-engine-NAME.so exports one
 * function, amphora_engine_entry, which returns a table. The running object is loaded by amphora-wasm
 * only (the host of one guest); the compiling one, libamphora-compiler-NAME.so with the same
 * interface, by `amphora-wasm compile` only. All structs start with their size, so that they can grow. */
#ifndef AMPHORA_ENGINE_H_
#define AMPHORA_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AMPHORA_ENGINE_ABI 1u

/* Capabilities. */
#define AMPHORA_CAP_MODULES 0x1u    /* core modules with WASI preview 1 */
#define AMPHORA_CAP_COMPONENTS 0x2u /* components: wasi:cli commands */
#define AMPHORA_CAP_WAT 0x4u        /* compile takes text */
#define AMPHORA_CAP_HTTP 0x8u       /* wasi:http/incoming-handler on listen_fd */
#define AMPHORA_CAP_COMPILE 0x10u   /* compile is present in this object */
#define AMPHORA_CAP_THREADS 0x20u
#define AMPHORA_CAP_SOCKETS 0x40u
#define AMPHORA_CAP_NN 0x80u
#define AMPHORA_CAP_LINK 0x100u /* link is present in this object */

/* Results of the int functions. */
#define AMPHORA_OK 0
#define AMPHORA_ERR_INVALID 1     /* the module is malformed or cannot be linked: exit 126 */
#define AMPHORA_ERR_NOT_FOUND 2   /* the named export does not exist: exit 127 */
#define AMPHORA_ERR_TRAP 3        /* the guest trapped: exit 134, text + backtrace were written */
#define AMPHORA_ERR_UNSUPPORTED 4 /* valid, but this engine or build cannot: exit 126 */
#define AMPHORA_ERR_SYSTEM 5      /* a system call or a limit of the host: exit 125 */
#define AMPHORA_ERR_THREADS \
  6 /* of compile: valid, but wants wasi-threads, which this engine lacks; the \
       host then asks an engine that has them, if nobody chose: exit 126 */
#define AMPHORA_ERR_OPTION 7 /* an unknown key among the options: exit 126 */
#define AMPHORA_ERR_IMPORTS \
  8 /* of compile: valid, but imports what this engine does not have (the text names it); the host \
       then asks link, if the guest has libraries: exit 126 */

typedef struct amphora_bytes {
  const uint8_t* data;
  size_t size;
} amphora_bytes;

/* The engine writes a one-line text (UTF-8, NUL-terminated, cut to fit) into the caller's buffer. */
typedef struct amphora_error {
  char* text;
  size_t capacity;
} amphora_error;

/* Options of a container, "key", "value" alternating, NULL-terminated (documented in docs/wasm.md).
 * An unknown key is AMPHORA_ERR_OPTION with a text that lists the known ones. */
typedef struct amphora_config {
  size_t size;
  const char* const* options;
  /* In the compile process: where the engine's objects lie, for one that has more of them. NULL: no matter. */
  const char* directory;
} amphora_config;

/* A module or component, as it came, and what it is called: "math.wasm", the title of a layer or the name
 * of a file without its directory. */
typedef struct amphora_part {
  const char* name;
  amphora_bytes bytes;
} amphora_part;

typedef struct amphora_preopen {
  int fd;             /* directory descriptor, borrowed; the engine dups what it keeps */
  const char* guest;  /* path the guest sees */
  uint32_t read_only; /* 1: the guest may not write (beside the file system's own permissions) */
} amphora_preopen;

typedef struct amphora_guest {
  size_t size;
  int artifact_fd;         /* what compile wrote, verified by the host; mapped, never written.
                                For load only: the engine dups what it keeps */
  const char* entry;       /* exported function, NULL: _start, or wasi:cli/run, or http handler */
  const char* const* args; /* NULL-terminated, args[0] first */
  const char* const* env;  /* NULL-terminated "K=V" */
  const amphora_preopen* preopens; /* open in run, too; the first is the working directory if its
                                      name is absolute (wasi:cli initial-cwd) */
  size_t preopen_count;
  int stdio[3];          /* borrowed; -1: closed */
  int listen_fd;         /* http: a listening TCP socket, -1: none yet */
  uint64_t memory_limit; /* bytes of linear memory in all, 0: no limit of its own */
  const amphora_config* config;
  /* http: called in load by an engine that finds the guest to be a server, if listen_fd is -1. The host
     makes the container's listening socket and returns it (run then finds it in listen_fd, and env
     without the variables that say where), or -1 with the text. NULL: there is none to be had. */
  int (*listen)(const struct amphora_guest*, amphora_error*);
} amphora_guest;

typedef struct amphora_engine {
  size_t size;
  uint32_t abi_version; /* AMPHORA_ENGINE_ABI */
  const char* name;     /* "wasmtime"; enters the cache key */
  const char* version;  /* "48.0.8"; enters the cache key */
  uint32_t (*capabilities)(void);
  /* Extra OCI layer media types it understands, NULL-terminated; may be NULL. */
  const char* const* (*layer_types)(void);
  /* In the zygote, before any container: start the engine. Opens nothing of a tenant, starts no
   * thread, keeps no descriptor open. */
  int (*prepare)(const amphora_config*, amphora_error*);
  /* In the limited compile process: module, component or text in, artifact to out_fd (a pipe or a
   * file, written sequentially). NULL in a runtime-only object. */
  int (*compile)(amphora_bytes in, int out_fd, const amphora_config*, amphora_error*);
  /* In the compile process: is this text or binary valid? One line says why not. NULL if absent. */
  int (*check)(amphora_bytes in, amphora_error*);
  /* In the container's own process, after its set-up: artifact -> ready to run (linked against WASI,
   * entry looked up), so that errors are known at create. */
  int (*load)(const amphora_guest*, amphora_error*);
  /* Runs what load prepared to its end. AMPHORA_OK: *exit_code is the guest's. Trap text and wasm
   * backtrace are written to guest.stdio[2] by the engine. */
  int (*run)(const amphora_guest*, int* exit_code, amphora_error*);
  /* All that makes artifacts differ: version, flags, CPU features, options. Both objects of one engine
   * must agree on what they load; the key is computed by the compiling object. */
  uint64_t (*cache_key)(const amphora_config*);
  /* Optional: asked to end in an orderly way (drain); async-signal-safe. NULL: the host ends the
   * process with 128 + signal. */
  void (*interrupt)(int signal);
  /* Optional, with AMPHORA_CAP_LINK; an object whose size ends before it has none. In the limited compile
   * process, for a guest that compile has answered with AMPHORA_ERR_IMPORTS: one artifact of main and
   * of those libraries that it takes imports from, and they in turn, by the rules of docs/images.md. What
   * load does with it is as for any other artifact. */
  int (*link)(const amphora_part* main, const amphora_part* libraries, size_t count, int out_fd,
              const amphora_config*, amphora_error*);
} amphora_engine;

/* The one exported symbol. */
const amphora_engine* amphora_engine_entry(void);

#ifdef __cplusplus
}
#endif

#endif /* AMPHORA_ENGINE_H_ */
