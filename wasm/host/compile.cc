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

#include <cstddef>
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

/// All of a file that nobody can change.
bool map(int fd, amphora_bytes* out) noexcept {
  struct stat file{};
  if (::fstat(fd, &file) != 0) return false;
  *out = {reinterpret_cast<const uint8_t*>(""), static_cast<size_t>(file.st_size)};
  if (out->size == 0) return true;
  const void* bytes = ::mmap(nullptr, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
  out->data = static_cast<const uint8_t*>(bytes);
  return bytes != MAP_FAILED;
}

int link(const amphora_engine& engine, const CompileOptions& options, const amphora_part& main,
         const amphora_config& config, amphora_error* error) noexcept {
  amphora_part parts[kMaxLibraries];
  const size_t count = options.libraries.size();
  for (size_t i = 0; i < count; ++i) {
    parts[i].name = options.libraries[i];
    if (!map(kLibraryFd + static_cast<int>(i), &parts[i].bytes)) {
      std::snprintf(error->text, error->capacity, "cannot map the library %s", parts[i].name);
      return AMPHORA_ERR_SYSTEM;
    }
  }
  return engine.link(&main, parts, count, kOutputFd, &config, error);
}

int work(const amphora_engine& engine, const CompileOptions& options,
         const amphora_config& config) noexcept {
  char text[512] = "failed";
  amphora_bytes in{};
  if (!map(kModuleFd, &in)) return say(AMPHORA_ERR_SYSTEM, "cannot map the module");
  amphora_error error{text, sizeof text};
  int result = AMPHORA_OK;
  if (options.task == CompileOptions::Task::kCheck) {
    result = engine.check(in, &error);
  } else if (options.libraries.empty()) {
    result = engine.compile(in, kOutputFd, &config, &error);
  } else {
    result = link(engine, options, {options.name, in}, config, &error);
  }
  return result == AMPHORA_OK ? AMPHORA_OK : say(result, text);
}

/// Whether the table has what the task takes; it ends before `link` in objects of before there was one.
bool can(const amphora_engine& engine, const CompileOptions& options) noexcept {
  if (options.task == CompileOptions::Task::kCheck) return engine.check != nullptr;
  if (options.libraries.empty()) return engine.compile != nullptr;
  constexpr size_t kWithLink = offsetof(amphora_engine, link) + sizeof(engine.link);
  return engine.size >= kWithLink && engine.link != nullptr;
}

}  // namespace

int compile(const CompileOptions& options) noexcept {
  ::prctl(PR_SET_NAME, "amphora-compile", 0, 0, 0);
  const auto first_unused = static_cast<unsigned>(kLibraryFd + options.libraries.size());
  ::syscall(SYS_close_range, first_unused, ~0U, 0U);
  if (!wait_for_go()) return kCompileBroken;
  char text[512] = "failed";
  const amphora_engine* engine =
      load_engine(options.engine_dir, "compiler", options.engine, text, sizeof text);
  if (engine == nullptr) return say(kCompileBroken, text);
  if (!can(*engine, options)) {
    return say(AMPHORA_ERR_UNSUPPORTED, "this engine's compiler cannot do that");
  }
  const amphora_config config{sizeof config, options.options, options.engine_dir};
  amphora_error error{text, sizeof text};
  const int prepared = engine->prepare != nullptr ? engine->prepare(&config, &error) : AMPHORA_OK;
  if (prepared != AMPHORA_OK) return say(prepared, text);
  if (options.task == CompileOptions::Task::kIdentify) return identify(*engine, config);
  if (!confine(options.limits, text, sizeof text)) return say(kCompileBroken, text);
  return work(*engine, options, config);
}

}  // namespace amphora::wasm
