// SPDX-License-Identifier: Apache-2.0
// The client of the limited compile process (`amphora-wasm compile`, wasm/host/compile): starts it,
// places it in the container's cgroup, collects the artifact, and says in words why there is none. Not
// here: whether to compile at all (cache), and the limiting itself (wasm/host/confine).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "detect/detect.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "wasm/compile_protocol.h"
#include "wasm/zygote.h"

namespace amphora::cgroup {
class Cgroup;
}

namespace amphora::wasm {

/// Limits of our own, documented in docs/wasm.md.
struct CompileLimits {
  /// A container with less memory than this, or less than half a CPU, compiles beside its cgroup, with
  /// this much memory. 0: always in its cgroup.
  uint64_t floor = uint64_t{256} << 20;
  /// For containers without a memory limit.
  uint64_t unlimited = uint64_t{4} << 30;
  int timeout_seconds = 300;

  /// The defaults, changed by AMPHORA_COMPILE_FLOOR (bytes) and AMPHORA_COMPILE_TIMEOUT (seconds).
  static CompileLimits from_environment();
};

/// One that may be linked to a guest.
struct CompileLibrary {
  std::string name;
  int module = -1;  ///< immutable
};

struct CompileRequest {
  std::string engine;
  std::vector<std::string> options;  ///< key, value, ...
  int module = -1;                   ///< immutable (a sealed memfd)
  std::string name;                  ///< of the module, for messages
  /// Not empty: the engine is to link them, with AMPHORA_CAP_LINK.
  std::vector<CompileLibrary> libraries;
  const cgroup::Cgroup* cgroup = nullptr;
  std::optional<uint64_t> memory_limit;  ///< the container's
  bool little_cpu = false;               ///< the container has less than half a CPU
  bool always_inside = false;            ///< whatever the floor says
};

/// A failure of the compile process, and what the engine's function returned.
class EngineError : public Error {
 public:
  EngineError(Error&& error, int result = 0) : Error(std::move(error)), result_(result) {}
  /// AMPHORA_ERR_*; 0 when it was not the engine that failed.
  int result() const noexcept { return result_; }

 private:
  int result_;
};
template <class T>
using EngineResult = std::expected<T, EngineError>;

class Compiler {
 public:
  Compiler(HostProgram& program, CompileLimits limits) : program_(program), limits_(limits) {}

  /// The artifact in a sealed memfd.
  EngineResult<UniqueFd> compile(const CompileRequest& request);
  /// Whether the file is valid WebAssembly text or binary; the error is the parser's line.
  Result<void> check(const std::string& engine, int module);
  /// What artifacts of this engine with these options depend on.
  EngineResult<Identity> identify(const std::string& engine, std::span<const std::string> options);

  const CompileLimits& limits() const noexcept { return limits_; }
  HostProgram& program() noexcept { return program_; }

 private:
  HostProgram& program_;
  const CompileLimits limits_;
};

/// detect/'s question, asked of the compile process. `compiler` must outlive the answer.
detect::WatCheck make_wat_check(Compiler& compiler, std::string engine);

}  // namespace amphora::wasm
