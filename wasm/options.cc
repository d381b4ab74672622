// SPDX-License-Identifier: Apache-2.0
// See options.h.
#include "wasm/options.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "detect/detect.h"
#include "executor/base/error.h"

namespace amphora::wasm {
namespace {

/// "off": compile in the container's cgroup, however little it allows.
constexpr std::string_view kFloorAnnotation = "amphora.dev/compile-floor";
constexpr size_t kMaxPreopens = 64;

Error bad(std::string_view key, std::string_view value, std::string_view want) {
  return Error(Errc::kInvalid, "annotations[\"" + std::string(key) + "\"]: \"" +
                                   std::string(value) + "\" is not " + std::string(want));
}

Result<bool> on_or_off(const std::string& key, const std::string& value) {
  if (value == "on") return true;
  if (value == "off") return false;
  return std::unexpected(bad(key, value, "on or off"));
}

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_absolute_and_plain(std::string_view path) {
  return path.starts_with('/') && path.find("/../") == std::string_view::npos &&
         !path.ends_with("/..");
}

/// Options of the host are taken; what it does not know is the engine's.
Result<void> take_option(const std::string& key, const std::string& value, GuestOptions* out) {
  const std::string name = key.substr(kOptionPrefix.size());
  if (name == "cache") {
    TRY_ASSIGN(out->use_cache, on_or_off(key, value));
  } else if (name == "kernel-files") {
    TRY_ASSIGN(out->kernel_files, on_or_off(key, value));
  } else if (name == "preopen") {
    auto preopens = parse_preopens(value);
    if (!preopens)
      return std::unexpected(std::move(preopens).error().context("annotations[\"" + key + "\"]"));
    out->preopens = std::move(*preopens);
  } else if (name == "http-listen") {
    if (value.empty()) return std::unexpected(bad(key, value, "ADDRESS:PORT"));
    out->listen = value;  // the wasm host knows what an address is
  } else if (name == "http-backlog") {
    const auto backlog = parse_number(value);
    if (!backlog || *backlog == 0 || *backlog > 65535) {
      return std::unexpected(bad(key, value, "a number from 1 to 65535"));
    }
    out->backlog = static_cast<uint32_t>(*backlog);
  } else if (name == "memory-max") {
    const auto size = parse_size(value);
    if (!size || *size == 0) {
      return std::unexpected(bad(key, value, "a number of bytes (K, M, G may follow)"));
    }
    out->memory_max = *size;
  } else if (key == detect::kLinkAnnotation) {
    // detect has found the files, where the entrypoint is one.
  } else {
    out->engine_options.push_back(name);
    out->engine_options.push_back(value);
  }
  return {};
}

}  // namespace

std::optional<uint64_t> parse_size(std::string_view text) {
  int shift = 0;
  if (text.ends_with('K')) shift = 10;
  if (text.ends_with('M')) shift = 20;
  if (text.ends_with('G')) shift = 30;
  if (shift != 0) text.remove_suffix(1);
  const auto value = parse_number(text);
  if (!value || *value > (UINT64_MAX >> shift)) return std::nullopt;
  return *value << shift;
}

Result<std::vector<Preopen>> parse_preopens(std::string_view text) {
  std::vector<Preopen> preopens;
  if (trim(text) == "none") return preopens;
  while (true) {
    const size_t comma = text.find(',');
    std::string_view word = trim(text.substr(0, comma));
    Preopen one;
    one.read_only = word.ends_with(":ro");
    if (one.read_only) word.remove_suffix(3);
    const size_t equals = word.find('=');
    one.path = word.substr(0, equals);
    one.name = equals == std::string_view::npos ? one.path : std::string(word.substr(equals + 1));
    if (!is_absolute_and_plain(one.path) || one.name.empty()) {
      return fail(Errc::kInvalid,
                  "\"" + std::string(word) +
                      "\" is not /PATH, /PATH=NAME or /PATH=NAME:ro, nor is it none");
    }
    preopens.push_back(std::move(one));
    if (preopens.size() > kMaxPreopens) {
      return fail(Errc::kInvalid, "more than " + std::to_string(kMaxPreopens) + " directories");
    }
    if (comma == std::string_view::npos) return preopens;
    text.remove_prefix(comma + 1);
  }
}

Result<GuestOptions> read_options(const std::map<std::string, std::string>& annotations) {
  GuestOptions options;
  for (const auto& [key, value] : annotations) {
    if (key == detect::kEngineAnnotation) {
      options.engine = value;
    } else if (key == kFloorAnnotation) {
      TRY_ASSIGN(const bool floor, on_or_off(key, value));
      options.always_inside = !floor;
    } else if (key.starts_with(kOptionPrefix)) {
      TRY(take_option(key, value, &options));
    }
  }
  return options;
}

}  // namespace amphora::wasm
