// SPDX-License-Identifier: Apache-2.0
// amphora cache: what the cache of compiled modules holds, removing from it, and compiling a module
// before a container wants it.
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detect/magic.h"
#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/cli/wiring.h"
#include "executor/oci/json_writer.h"
#include "wasm/options.h"
#include "wasm/wasm_executor.h"

namespace amphora::cli {
namespace {

struct CacheOptions {
  bool json = false;
  bool all = false;
  std::string engine;
  std::vector<std::string> guest;
  std::string image;
  std::string address, name_space;
  std::vector<std::string> link;
};
constexpr Option kOptions[] = {
    option<&CacheOptions::json>("json", 0, "print JSON (ls)"),
    option<&CacheOptions::all>("all", 0, "all modules (rm)"),
    option<&CacheOptions::engine>("engine", 0, "the engine to compile for (warm)"),
    option<&CacheOptions::guest>("option", 'o',
                                 "KEY=VALUE, as the annotation amphora.dev/engine.KEY (warm)"),
    option<&CacheOptions::image>("image", 0,
                                 "an image in containerd whose wasm layer is compiled (warm)"),
    option<&CacheOptions::link>("link", 0,
                                "a file that the modules may import from (warm); may be repeated"),
    option<&CacheOptions::address>("address", 'a', "containerd's socket (warm --image)",
                                   "$CONTAINERD_ADDRESS or /run/containerd/containerd.sock"),
    option<&CacheOptions::name_space>("namespace", 'n', "containerd's namespace (warm --image)",
                                      "$CONTAINERD_NAMESPACE or \"default\""),
};

/// As much of a key as tells it apart from others.
constexpr size_t kShortKey = 12;

std::string time_text(int64_t seconds) {
  tm parts{};
  const time_t when = seconds;
  char text[32];
  if (::gmtime_r(&when, &parts) == nullptr ||
      ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
    return "";
  }
  return text;
}

std::string as_json(const std::vector<wasm::Cache::Entry>& entries) {
  oci::JsonWriter json(2);
  json.open("", '[');
  for (const auto& entry : entries) {
    json.open("", '{');
    json.text("key", entry.key);
    json.number("size", static_cast<int64_t>(entry.size));
    json.text("used", time_text(entry.used));
    json.text("label", entry.label);
    json.close('}');
  }
  json.close(']');
  return std::move(json).take() + "\n";
}

Result<int> list(wasm::Cache& cache, const CacheOptions& options) {
  const auto entries = cache.entries();
  if (options.json) {
    TRY(print(as_json(entries)));
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"KEY", "SIZE", "LAST USED", "MODULE"}};
  for (const auto& entry : entries) {
    rows.push_back({entry.key.substr(0, kShortKey), std::to_string(entry.size),
                    time_text(entry.used), entry.label});
  }
  TRY(print(table(rows)));
  return 0;
}

Result<int> remove(wasm::Cache& cache, const CacheOptions& options, Arguments keys) {
  if (keys.empty() != options.all) {
    return fail(Errc::kInvalid, "cache rm wants keys (as cache ls shows them), or --all");
  }
  const auto entries = cache.entries();
  for (const auto& entry : entries) {
    if (options.all) cache.remove(entry.key);
  }
  for (const char* const key : keys) {
    const std::string_view wanted(key);
    const wasm::Cache::Entry* found = nullptr;
    for (const auto& entry : entries) {
      if (!entry.key.starts_with(wanted)) continue;
      if (found != nullptr) {
        return fail(Errc::kInvalid,
                    "\"" + std::string(wanted) + "\" is the beginning of several keys");
      }
      found = &entry;
    }
    if (found == nullptr || wanted.empty()) {
      return fail(Errc::kNotFound,
                  "no compiled module has the key \"" + std::string(wanted) + "\"");
    }
    cache.remove(found->key);
  }
  return 0;
}

/// A module, a component or a text, by its first bytes.
Result<detect::Verdict> read_module(const std::string& path) {
  detect::Verdict verdict;
  verdict.path = path;
  TRY_ASSIGN(verdict.module, open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK));
  struct stat file{};
  std::byte head[detect::kHeadBytes];
  const ssize_t n = ::pread(verdict.module.get(), head, sizeof head, 0);
  if (::fstat(verdict.module.get(), &file) != 0 || !S_ISREG(file.st_mode) || n < 0) {
    return fail(Errc::kInvalid, path + ": not a regular file");
  }
  switch (detect::classify({head, static_cast<size_t>(n)})) {
    case detect::Format::kWasm:
      verdict.kind = detect::Kind::kWasmModule;
      return verdict;
    case detect::Format::kComponent:
      verdict.kind = detect::Kind::kWasmComponent;
      return verdict;
    case detect::Format::kMaybeText:
      verdict.kind = detect::Kind::kWasmText;
      return verdict;
    case detect::Format::kElf:
    case detect::Format::kScript:
    case detect::Format::kUnknown:
      break;
  }
  return fail(Errc::kInvalid, path + ": neither a WebAssembly module, a component nor a text");
}

std::string first_of(const std::string& given, const char* variable, const char* otherwise) {
  if (!given.empty()) return given;
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

/// What a container with these options would have for annotations.
Result<wasm::GuestOptions> guest_options(const CacheOptions& options) {
  std::map<std::string, std::string> annotations;
  for (const std::string& word : options.guest) {
    const size_t equals = word.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return fail(Errc::kInvalid, "--option \"" + word + "\" is not KEY=VALUE");
    }
    annotations[std::string(wasm::kOptionPrefix) + word.substr(0, equals)] =
        word.substr(equals + 1);
  }
  TRY_ASSIGN(wasm::GuestOptions guest, wasm::read_options(annotations));
  guest.engine = options.engine;
  return guest;
}

/// `names`: which of several layers, by their titles; none: the only one.
Result<int> warm_image(WasmExecutor& wasm, const CacheOptions& options,
                       const wasm::GuestOptions& guest, Arguments names) {
  const wasm::Containerd containerd{
      first_of(options.address, "CONTAINERD_ADDRESS", "/run/containerd/containerd.sock"),
      first_of(options.name_space, "CONTAINERD_NAMESPACE", "default")};
  const char* const any[] = {"/"};
  for (const char* const name : names.empty() ? Arguments(any) : names) {
    TRY_ASSIGN(const detect::Verdict verdict,
               wasm.from_image(containerd, {"", options.image, name, options.engine}));
    if (verdict.kind == detect::Kind::kNative) return fail(Errc::kNotFound, verdict.why_not);
    TRY(wasm.warm(guest, verdict));
  }
  return 0;
}

Result<int> warm(WasmExecutor& wasm, const CacheOptions& options, Arguments files) {
  TRY_ASSIGN(const wasm::GuestOptions guest, guest_options(options));
  if (!options.image.empty()) return warm_image(wasm, options, guest, files);
  if (files.empty()) return fail(Errc::kInvalid, "cache warm wants files with modules");
  for (const char* const file : files) {
    TRY_ASSIGN(detect::Verdict verdict, read_module(file));
    for (const std::string& path : options.link) {
      TRY_ASSIGN(UniqueFd library, open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK));
      verdict.libraries.push_back(
          {path.substr(path.find_last_of('/') + 1), {}, std::move(library)});
    }
    TRY(wasm.warm(guest, verdict));
  }
  return 0;
}

Result<int> cache_verb(Context& context, const CacheOptions& options, Arguments words) {
  const std::string_view what = words[0];
  const auto wasm = make_wasm(context.children());
  if (!wasm->cache().problem().empty()) return fail(Errc::kPrecondition, wasm->cache().problem());
  if (what == "ls" && words.size() == 1) return list(wasm->cache(), options);
  if (what == "rm") return remove(wasm->cache(), options, words.subspan(1));
  if (what == "warm") return warm(*wasm, options, words.subspan(1));
  return fail(Errc::kInvalid, "cache \"" + std::string(what) + "\": ls, rm or warm");
}

}  // namespace

constinit const Command kCacheCommand = {
    .name = "cache",
    .summary = "list, remove or make compiled WebAssembly modules",
    .usage = "ls | rm <key>... | warm <file>... | warm --image <image>",
    .description =
        "Modules are compiled when a container first wants them and kept, bounded by "
        "AMPHORA_CACHE_SIZE; warm compiles them before. What is compiled of an image's wasm "
        "layer is kept in containerd's content store, and goes with the image. A module in an "
        "image's files: mount the image first (ctr images mount).",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = -1,
    .run = &verb<CacheOptions, &cache_verb>,
};

}  // namespace amphora::cli
