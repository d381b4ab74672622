// SPDX-License-Identifier: Apache-2.0
// The executor for WebAssembly: turns a verdict into an ExecPlan whose init is a clone of the wasm
// host's zygote, with a compiled artifact from the cache (compiling it first if it must). Annotations
// and environment variables it reads are in docs/wasm.md.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "executor/executor.h"
#include "wasm/cache.h"
#include "wasm/compiler.h"
#include "wasm/content.h"
#include "wasm/options.h"
#include "wasm/zygote.h"

namespace amphora {

class WasmExecutor : public Executor {
 public:
  struct Options {
    std::optional<wasm::Programs> programs = std::nullopt;  ///< else found when needed
    /// When no annotation names one; empty: the one that fits the module (docs/engines.md).
    std::string engine = {};
    std::string cache_dir = wasm::Cache::default_directory();
    uint64_t cache_size = wasm::Cache::default_size();
    wasm::CompileLimits limits = wasm::CompileLimits::from_environment();
  };
  /// Starts nothing: the zygote comes with the first guest.
  WasmExecutor(Options options, Children& children);

  bool runs(detect::Kind kind) const noexcept override;
  Result<setup::ExecPlan> plan_exec(const ExecContext& context, const oci::Process& process,
                                    detect::Verdict&& verdict) override;

  /// For detect: asks the limited process. What is text does not depend on the engine that will run it.
  /// This executor must outlive it.
  detect::WatCheck wat_check() { return wasm::make_wat_check(compiler_, engine_or_default("")); }
  /// The module among an image's layers, by containerd's API; native, with why_not: there is none.
  Result<detect::Verdict> from_image(const wasm::Containerd& containerd,
                                     const wasm::ImageQuery& query);
  /// Opened at first use.
  wasm::Cache& cache();
  wasm::Zygote& zygote(const std::string& engine);
  /// Compiles a module that no container has asked for yet, without limits but our own, as for a guest with
  /// these options.
  Result<void> warm(const wasm::GuestOptions& options, const detect::Verdict& verdict);

 private:
  /// What there is for a module: its code, or the line that says why the engine has none for a module that
  /// wants wasi-threads (AMPHORA_ERR_THREADS) or libraries (AMPHORA_ERR_IMPORTS).
  struct Artifact {
    UniqueFd code;
    std::string wants_threads, wants_libraries;
  };
  /// Who wants an artifact of what.
  struct Order {
    const ExecContext& context;
    const wasm::GuestOptions& options;
    const wasm::Identity& identity;
    const detect::Verdict& verdict;
  };
  struct Ready {
    std::string engine;
    Artifact artifact;
  };
  static std::string engine_or_default(const std::string& engine);
  Result<wasm::Identity> identity(const std::string& engine, const wasm::GuestOptions& options);
  Result<Ready> prepare(const ExecContext& context, const wasm::GuestOptions& options,
                        const detect::Verdict& verdict);
  Result<Ready> prepare_on(const std::string& engine, const ExecContext& context,
                           const wasm::GuestOptions& options, const detect::Verdict& verdict);
  static wasm::CompileRequest request_of(const Order& order, int module);
  Result<Artifact> artifact(const Order& order);
  Result<UniqueFd> linked(const Order& order, const std::string& wanted);
  /// What an earlier compile has said of the module instead of making code; empty members: nothing.
  Artifact noted(const std::string& key);
  bool is_installed(const std::string& engine);
  /// The least of what the guest is allowed; 0: no limit of its own.
  static uint64_t memory_of(const ExecContext& context, const wasm::GuestOptions& options);

  const Options options_;
  wasm::HostProgram program_;
  wasm::Compiler compiler_;
  wasm::HostProgram content_;
  std::mutex mutex_;  ///< guards what follows
  std::unique_ptr<wasm::Cache> cache_;
  std::map<std::string, std::unique_ptr<wasm::Zygote>> zygotes_;
  std::map<std::string, wasm::Identity> identities_;  ///< by engine and options
};

}  // namespace amphora
