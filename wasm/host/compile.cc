// SPDX-License-Identifier: Apache-2.0
// See compile.h. Order: wait until the client has placed us in a cgroup, load the compiler (our own
// file), confine, and only then look at the guest's bytes.
#include "wasm/host/compile.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "wasm/compile_protocol.h"
#include "wasm/host/engine.h"

namespace amphora::wasm {
namespace {

int say(int code, const char* text) noexcept {
  [[maybe_unused]] const ssize_t n = ::write(2, text, std::strlen(text));
  return code;
}

/// The client releases us; its end of file without a byte means that it has given up.
bool wait_for_go() noexcept {
  char byte = 0;
  ssize_t n = 0;
  do {
    n = ::read(kGoFd, &byte, 1);
  } while (n < 0 && errno == EINTR);
  ::close(kGoFd);
  return n == 1;
}

/// As many as there is room for, each whole.
void list_layer_types(const amphora_engine& engine, char* out, size_t capacity) noexcept {
  if (engine.layer_types == nullptr) return;
  size_t used = 0;
  for (const char* const* type = engine.layer_types(); type != nullptr && *type != nullptr;
       ++type) {
    const size_t size = std::strlen(*type);
    if (size == 0 || std::strchr(*type, ' ') != nullptr) continue;
    if (used + size + 2 > capacity) return;
    if (used > 0) out[used++] = ' ';
    std::memcpy(out + used, *type, size + 1);
    used += size;
  }
}

int identify(const amphora_engine& engine, const amphora_config& config) noexcept {
  Identity identity{};
  identity.size = sizeof identity;
  identity.capabilities = engine.capabilities != nullptr ? engine.capabilities() : 0;
  identity.cache_key = engine.cache_key != nullptr ? engine.cache_key(&config) : 0;
  std::snprintf(identity.engine, sizeof identity.engine, "%s", engine.name);
  std::snprintf(identity.version, sizeof identity.version, "%s", engine.version);
  list_layer_types(engine, identity.layer_types, sizeof identity.layer_types);
  return ::write(kOutputFd, &identity, sizeof identity) == sizeof identity
             ? AMPHORA_OK
             : say(kCompileBroken, "cannot write the engine's identity");
}

int work(const amphora_engine& engine, const CompileOptions& options,
         const amphora_config& config) noexcept {
  char text[512] = "failed";
  struct stat file{};
  if (::fstat(kModuleFd, &file) != 0) return say(kCompileBroken, "cannot stat the module");
  const auto size = static_cast<size_t>(file.st_size);
  const void* bytes = "";
  if (size > 0) {
    bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, kModuleFd, 0);
    if (bytes == MAP_FAILED) return say(AMPHORA_ERR_SYSTEM, "cannot map the module");
  }
  const amphora_bytes in{static_cast<const uint8_t*>(bytes), size};
  amphora_error error{text, sizeof text};
  const int result = options.task == CompileOptions::Task::kCheck
                         ? engine.check(in, &error)
                         : engine.compile(in, kOutputFd, &config, &error);
  return result == AMPHORA_OK ? AMPHORA_OK : say(result, text);
}

}  // namespace

int compile(const CompileOptions& options) noexcept {
  ::prctl(PR_SET_NAME, "amphora-compile", 0, 0, 0);
  ::syscall(SYS_close_range, static_cast<unsigned>(kGoFd + 1), ~0U, 0U);
  if (!wait_for_go()) return kCompileBroken;
  char text[512] = "failed";
  const amphora_engine* engine =
      load_engine(options.engine_dir, "compiler", options.engine, text, sizeof text);
  if (engine == nullptr) return say(kCompileBroken, text);
  const bool can = options.task == CompileOptions::Task::kCheck ? engine->check != nullptr
                                                                : engine->compile != nullptr;
  if (!can) return say(AMPHORA_ERR_UNSUPPORTED, "this engine's compiler cannot do that");
  const amphora_config config{sizeof config, options.options, options.engine_dir};
  amphora_error error{text, sizeof text};
  const int prepared = engine->prepare != nullptr ? engine->prepare(&config, &error) : AMPHORA_OK;
  if (prepared != AMPHORA_OK) return say(prepared, text);
  if (options.task == CompileOptions::Task::kIdentify) return identify(*engine, config);
  if (!confine(options.limits, text, sizeof text)) return say(kCompileBroken, text);
  return work(*engine, options, config);
}

}  // namespace amphora::wasm
