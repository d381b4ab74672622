// SPDX-License-Identifier: Apache-2.0
// The annotations of a container that concern its guest, read once: which engine, what every engine
// has from the host (preopens, memory, listening address, cache), and what is left for the engine
// itself. docs/wasm.md lists them all; a wrong value is an error that says what is right.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora::wasm {

/// A directory of the container that the guest gets, under a name of its own.
struct Preopen {
  std::string path, name;
  bool read_only = false;
};

struct GuestOptions {
  std::string engine;                       ///< empty: nobody chose
  std::vector<std::string> engine_options;  ///< key, value, ..., by key
  bool always_inside = false;  ///< compile in the container's cgroup whatever it allows
  bool use_cache = true;
  bool kernel_files = false;                     ///< /proc and /sys are part of the root
  std::optional<std::vector<Preopen>> preopens;  ///< instead of the root
  std::string listen;                            ///< of an HTTP server; empty: not said
  uint32_t backlog = 0;                          ///< 0: not said
  uint64_t memory_max = 0;                       ///< bytes; 0: not said
};

/// "amphora.dev/engine.backtrace: on" is option "backtrace".
inline constexpr std::string_view kOptionPrefix = "amphora.dev/engine.";
/// Those that are the same for all engines, for the error about an unknown one.
inline constexpr std::string_view kHostOptions =
    "cache (on, off), http-backlog (a number), http-listen (ADDRESS:PORT), "
    "kernel-files (on, off), link (PATH, ...), memory-max (bytes), preopen (PATH[=NAME][:ro], ... "
    "or "
    "none)";

Result<GuestOptions> read_options(const std::map<std::string, std::string>& annotations);

/// "67108864", "64K", "64M", "1G": powers of 1024. Nothing when it is no such number.
std::optional<uint64_t> parse_size(std::string_view text);

/// "/data, /etc=/config:ro" or "none".
Result<std::vector<Preopen>> parse_preopens(std::string_view text);

}  // namespace amphora::wasm
