// SPDX-License-Identifier: Apache-2.0
// What the command lines of checkpoint and restore have in common: words about CRIU and what they become.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/runtime/checkpoint.h"

namespace amphora::cli {

/// Options that both verbs have; each verb's table is over its own struct, which begins with this.
struct CriuLine {
  std::string image_path, work_path, cgroups_mode;
  std::vector<std::string> empty_ns;
  bool tcp_established = false, ext_unix_sk = false, shell_job = false, lazy_pages = false,
       file_locks = false, auto_dedup = false;
};

namespace criu_words {
inline constexpr char kImagePath[] =
    "path to the directory of the criu image files (default: \"checkpoint\" here)";
inline constexpr char kWorkPath[] =
    "path to the directory of criu's logs and working files (default: the images')";
inline constexpr char kTcp[] = "allow open tcp connections";
inline constexpr char kUnix[] = "allow external unix sockets";
inline constexpr char kShell[] = "allow shell jobs";
inline constexpr char kLocks[] = "handle file locks, for safety";
inline constexpr char kCgroups[] =
    "what criu does with cgroups: soft, full, strict or ignore; without it they are made anew from "
    "config.json";
inline constexpr char kEmptyNs[] = "namespaces whose content is left alone (network)";
inline constexpr char kDedup[] = "enable auto deduplication of memory images";
inline constexpr char kLazy[] = "handle memory pages lazily, by userfaultfd";
}  // namespace criu_words

/// Paths made absolute, words understood. kInvalid names the option.
Result<void> understand(const CriuLine& line, CriuOptions& out);

}  // namespace amphora::cli
