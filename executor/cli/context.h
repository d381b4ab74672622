// SPDX-License-Identifier: Apache-2.0
// What every verb works with: the global options, and the runtime, which is wired by hand here the
// first time a verb asks for it. `--version` and usage errors never get that far.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/cli/log.h"

namespace amphora {
class Runtime;
class Store;
}  // namespace amphora

namespace amphora::cli {

enum class CreateRoot : bool { kNo = false, kYes = true };

struct Globals {
  bool debug = false;
  std::string log;  ///< file; empty: stderr
  std::string log_format = "text";
  std::optional<std::string> root;  ///< as given
  bool systemd_cgroup = false;
  std::string rootless_text = "auto";
  std::string criu;  ///< accepted and ignored, as runc's later versions do
  bool version = false;
  std::optional<bool> rootless_cgroups;  ///< what rootless_text says; "auto": nothing
};

/// `/run/amphora`, or $XDG_RUNTIME_DIR/amphora for who is not root, or root only of a user namespace
/// (runc's rule: there, with a $USER other than root).
std::string default_root();

class Context {
 public:
  Context(const char* program, Globals globals);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Globals& globals() const noexcept { return globals_; }
  /// argv[0] as it was typed, for messages about usage.
  const char* program() const noexcept { return program_; }
  /// "runc" when called under that name, else "amphora"; in version text and fixed phrases.
  const char* name() const noexcept { return name_; }
  std::string root() const { return globals_.root ? *globals_.root : default_root(); }
  Log& log() noexcept { return log_; }
  Children& children() noexcept { return children_; }

  /// The runtime over the state root. Without CreateRoot::kYes a missing root means that there are
  /// no containers: kNotFound, "container does not exist".
  Result<Runtime*> runtime(CreateRoot create = CreateRoot::kNo);
  /// For questions about a bundle, which need no containers: nothing is made, the state root need not
  /// exist and is not looked at.
  Result<Runtime*> runtime_without_root(const std::string& bundle);

 private:
  Result<Runtime*> over(Store store);

  const char* program_;
  const char* name_;
  Globals globals_;
  Log log_;
  Children children_;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace amphora::cli
