// SPDX-License-Identifier: Apache-2.0
// Runtime options as containerd passes them (an Any, on the stdin of `start` and in Create): runc's,
// which CRI sends, and the generic ones. What we cannot use is noted for the log and never an error:
// others broke pods by refusing options of a newer containerd.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/runtime/checkpoint.h"

namespace amphora::proto {
class Any;
}

namespace amphora::shim {

/// Who is to own the FIFOs and pipes that a container gets: root of its user namespace.
struct IoOwner {
  std::optional<uint32_t> uid, gid;
};

struct RuntimeOptions {
  bool no_pivot_root = false;
  bool no_new_keyring = false;
  bool systemd_cgroup = false;
  std::string shim_cgroup;
  std::string engine;          ///< of guests that no annotation gives another
  std::string root;            ///< state root; empty: the default one
  std::string criu_work_path;  ///< where a restore's logs go; empty: in the bundle
  IoOwner io_owner;
  std::vector<std::string> notes;  ///< what was ignored, for the log
};

/// Reads the file that options may name. Fuzzers give one that opens nothing.
using ReadConfig = Result<std::string> (*)(const std::string& path);
Result<std::string> read_config(const std::string& path);

RuntimeOptions parse_options(const proto::Any& any, ReadConfig read = read_config);

/// What a Checkpoint is asked: `path` from the request, the rest from its options, which may be absent. An
/// unknown type is noted in `notes`; kInvalid for values that CRIU does not know, and without any path.
Result<CheckpointOptions> parse_checkpoint_options(const proto::Any& any, const std::string& path,
                                                   std::vector<std::string>& notes);

/// A type URL's message name: the part after the last '/'.
std::string type_name(const std::string& type_url);

}  // namespace amphora::shim
