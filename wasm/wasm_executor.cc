// SPDX-License-Identifier: Apache-2.0
// See wasm_executor.h.
#include "wasm/wasm_executor.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "amphora/engine.h"
#include "detect/detect.h"
#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/executor.h"
#include "executor/oci/spec.h"
#include "executor/setup/exec_plan.h"
#include "wasm/handover.h"
#include "wasm/identity.h"
#include "wasm/libraries.h"
#include "wasm/module.h"
#include "wasm/sha256.h"

namespace amphora {
namespace {

using wasm::Identity;

/// Who runs what nobody chose an engine for, and who runs what it cannot: docs/engines.md.
constexpr std::string_view kDefaultEngine = "wasmtime";
constexpr std::string_view kThreadsEngine = "wamr";

/// Half a CPU or less: compiling a few megabytes would take minutes.
bool has_little_cpu(const oci::Spec& spec) {
  const auto& cpu = spec.linux_.resources.cpu;
  if (!cpu || !cpu->quota || *cpu->quota <= 0) return false;
  const uint64_t period = cpu->period.value_or(100000);
  return static_cast<uint64_t>(*cpu->quota) * 2 < period;
}

std::optional<uint64_t> memory_limit(const oci::Spec& spec) {
  const auto& memory = spec.linux_.resources.memory;
  if (!memory || !memory->limit || *memory->limit <= 0) return std::nullopt;
  return static_cast<uint64_t>(*memory->limit);
}

/// A module that is read when it is wanted: not for a start that finds what was compiled from it.
class Module {
 public:
  explicit Module(const detect::Verdict& verdict) : verdict_(verdict) {}
  Result<wasm::Digest> digest() {
    if (!verdict_.module && !read_ && !verdict_.artifacts->module_digest().empty()) {
      return wasm::from_hex(verdict_.artifacts->module_digest());
    }
    TRY_ASSIGN(const int module, fd());
    return wasm::digest_module(module);
  }
  Result<int> fd() {
    if (verdict_.module) return verdict_.module.get();
    if (!read_) {
      TRY_ASSIGN(read_, verdict_.artifacts->read_module());
    }
    return read_.get();
  }

 private:
  const detect::Verdict& verdict_;
  UniqueFd read_;
};

/// Notes of the cache beside a key: what compile said of the module in place of code.
std::string threads_note(const std::string& key) { return "threads-" + key.substr(0, 32); }
std::string imports_note(const std::string& key) { return "imports-" + key.substr(0, 32); }

/// Without the path that is the module's in this container, and another's in others.
std::string engines_words(const Error& error, const detect::Verdict& verdict) {
  const std::string ours = "compiling " + verdict.path + ": ";
  const std::string& text = error.what();
  return text.starts_with(ours) ? text.substr(ours.size()) : text;
}

/// For whoever looks into the cache; paths of different images may be alike.
std::string label_of(const Identity& identity, const wasm::GuestOptions& options,
                     const detect::Verdict& verdict) {
  std::string label = std::string(identity.engine) + " " + identity.version + " " + verdict.path;
  for (size_t i = 0; i + 1 < options.engine_options.size(); i += 2) {
    label += " " + options.engine_options[i] + "=" + options.engine_options[i + 1];
  }
  return label;
}

/// Whether the guest gets directories that the kernel's files are to be kept out of.
bool needs_view(const wasm::GuestOptions& options) {
  if (options.kernel_files) return false;
  return !options.preopens || !std::ranges::all_of(*options.preopens, [](const wasm::Preopen& one) {
    return wasm::is_of_kernel_files(one.path);
  });
}

Result<void> check_kind(const Identity& identity, const detect::Verdict& verdict) {
  uint32_t wanted = AMPHORA_CAP_MODULES;
  if (verdict.kind == detect::Kind::kWasmComponent) wanted = AMPHORA_CAP_COMPONENTS;
  if (verdict.kind == detect::Kind::kWasmText) wanted = AMPHORA_CAP_WAT;
  if ((identity.capabilities & wanted) != 0) return {};
  return fail(Errc::kUnsupported, verdict.path + ": engine " + identity.engine + " " +
                                      identity.version + " does not run a " +
                                      detect::to_string(verdict.kind));
}

}  // namespace

WasmExecutor::WasmExecutor(Options options, Children& children)
    : options_(std::move(options)),
      program_(options_.programs, children),
      compiler_(program_, options_.limits),
      content_(options_.programs, children, &wasm::Programs::content) {}

Result<detect::Verdict> WasmExecutor::from_image(const wasm::Containerd& containerd,
                                                 const wasm::ImageQuery& query) {
  TRY_ASSIGN(auto session, wasm::ContentSession::start(content_, containerd));
  TRY_ASSIGN(auto found, session->open(query));
  if (!found.head) {
    // Perhaps the engine knows more types of layers than everybody.
    const std::string chosen = query.engine.empty() ? options_.engine : query.engine;
    const auto identity = this->identity(engine_or_default(chosen), {});
    if (identity && identity->layer_types[0] != '\0') {
      wasm::ImageQuery again = query;
      again.layer_types = identity->layer_types;
      TRY_ASSIGN(found, session->open(again));
    }
  }
  if (!found.head) {
    detect::Verdict none;
    none.why_not = std::move(found.why_none);
    return none;
  }
  TRY_ASSIGN(
      detect::Verdict verdict,
      detect::detect_layer(std::move(found.head), query.entrypoint,
                           "layer " + found.digest + " of image " + found.image, wat_check()));
  // Perhaps no more than the first bytes: whoever wants the module reads it then.
  verdict.module.reset();
  verdict.libraries = std::move(found.libraries);
  verdict.artifacts = std::move(session);
  return verdict;
}

bool WasmExecutor::runs(detect::Kind kind) const noexcept { return kind != detect::Kind::kNative; }

wasm::Cache& WasmExecutor::cache() {
  const std::lock_guard lock(mutex_);
  if (!cache_) cache_ = wasm::Cache::open(options_.cache_dir, options_.cache_size);
  return *cache_;
}

wasm::Zygote& WasmExecutor::zygote(const std::string& engine) {
  const std::lock_guard lock(mutex_);
  auto& zygote = zygotes_[engine];
  if (!zygote) zygote = std::make_unique<wasm::Zygote>(program_, engine);
  return *zygote;
}

std::string WasmExecutor::engine_or_default(const std::string& engine) {
  return engine.empty() ? std::string(kDefaultEngine) : engine;
}

Result<Identity> WasmExecutor::identity(const std::string& engine,
                                        const wasm::GuestOptions& choice) {
  std::string options;
  for (const std::string& word : choice.engine_options) options.append(word).push_back('\0');
  const std::string basis = identity_basis(program_.programs(), engine, options);
  const std::string name = engine + '\0' + basis;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = identities_.find(name); known != identities_.end()) return known->second;
  }
  // A few notes per machine: one for each engine and set of options in use.
  const std::string note = "engine-" + engine + "-" +
                           wasm::to_hex(wasm::sha256(options.data(), options.size())).substr(0, 16);
  Identity identity{};
  if (!unpack_identity(cache().note(note), basis, &identity)) {
    auto asked = compiler_.identify(engine, choice.engine_options);
    if (!asked && asked.error().result() == AMPHORA_ERR_OPTION) {
      return fail(Errc::kInvalid,
                  asked.error().what() + "; for every engine: " + std::string(wasm::kHostOptions));
    }
    TRY_ASSIGN(identity, std::move(asked));
    cache().set_note(note, pack_identity(basis, identity));
  }
  const std::lock_guard lock(mutex_);
  identities_[name] = identity;
  return identity;
}

WasmExecutor::Artifact WasmExecutor::noted(const std::string& key) {
  return {UniqueFd(), cache().note(threads_note(key)), cache().note(imports_note(key))};
}

Result<WasmExecutor::Artifact> WasmExecutor::artifact(const Order& order) {
  const auto& [context, options, identity, verdict] = order;
  const auto is_said = [](const Artifact& said) {
    return !said.wants_threads.empty() || !said.wants_libraries.empty();
  };
  Module module(verdict);
  if (options.use_cache) {
    TRY_ASSIGN(const wasm::Digest digest, module.digest());
    const std::string key = wasm::key_of(identity, digest);
    if (UniqueFd found = cache().find(key, verdict.artifacts.get())) {
      return Artifact{std::move(found), {}, {}};
    }
    // Asked before, so that such a module does not start a compiler each time that will not take it.
    if (Artifact said = noted(key); is_said(said)) return said;
  }
  TRY_ASSIGN(const int bytes, module.fd());
  TRY_ASSIGN(const wasm::FrozenModule frozen, wasm::freeze_module(bytes));
  const std::string key = options.use_cache ? wasm::key_of(identity, frozen.digest) : "";
  Artifact said;
  const auto compile = [&]() -> Result<UniqueFd> {
    auto made = compiler_.compile(request_of(order, frozen.fd.get()));
    if (made) return std::move(*made);
    const int result = made.error().result();
    if (result == AMPHORA_ERR_THREADS) said.wants_threads = made.error().what();
    if (result == AMPHORA_ERR_IMPORTS) said.wants_libraries = engines_words(made.error(), verdict);
    // Now, for whoever waits for the same module.
    if (options.use_cache && result == AMPHORA_ERR_THREADS) {
      cache().set_note(threads_note(key), said.wants_threads);
    } else if (options.use_cache && result == AMPHORA_ERR_IMPORTS) {
      cache().set_note(imports_note(key), said.wants_libraries);
    }
    return std::unexpected(std::move(made).error());
  };
  auto made = !options.use_cache ? compile()
                                 : cache().get(key, compile, label_of(identity, options, verdict),
                                               verdict.artifacts.get());
  if (made) return Artifact{std::move(*made), {}, {}};
  if (!is_said(said) && options.use_cache) said = noted(key);
  if (is_said(said)) return said;
  return std::unexpected(std::move(made).error());
}

/// `wanted`: what compile has said of the module alone.
Result<UniqueFd> WasmExecutor::linked(const Order& order, const std::string& wanted) {
  const auto& [context, options, identity, verdict] = order;
  if (verdict.libraries.empty()) return fail(Errc::kInvalid, verdict.path + ": " + wanted);
  if ((identity.capabilities & AMPHORA_CAP_LINK) == 0) {
    return fail(Errc::kUnsupported, verdict.path + ": " + wanted + "; engine " + identity.engine +
                                        " " + identity.version + " links no libraries, engine " +
                                        std::string(kDefaultEngine) + " does");
  }
  Module module(verdict);
  TRY_ASSIGN(wasm::Libraries libraries, wasm::Libraries::of(verdict));
  if (options.use_cache) {
    TRY_ASSIGN(const wasm::Digest digest, module.digest());
    if (UniqueFd found = cache().find(libraries.key(identity, digest), verdict.artifacts.get())) {
      return found;
    }
  }
  TRY_ASSIGN(const int bytes, module.fd());
  TRY_ASSIGN(const wasm::FrozenModule frozen, wasm::freeze_module(bytes));
  TRY(libraries.read());
  wasm::CompileRequest request = request_of(order, frozen.fd.get());
  request.libraries = libraries.requests();
  const auto link = [&]() -> Result<UniqueFd> { return compiler_.compile(request); };
  if (!options.use_cache) return link();
  return cache().get(libraries.key(identity, frozen.digest), link,
                     label_of(identity, options, verdict) + " linked", verdict.artifacts.get());
}

wasm::CompileRequest WasmExecutor::request_of(const Order& order, int module) {
  wasm::CompileRequest request;
  request.engine = order.identity.engine;
  request.options = order.options.engine_options;
  request.module = module;
  request.name = order.verdict.path;
  request.cgroup = order.context.cgroup;
  request.memory_limit = memory_limit(order.context.spec);
  request.little_cpu = has_little_cpu(order.context.spec);
  request.always_inside = order.options.always_inside;
  return request;
}

bool WasmExecutor::is_installed(const std::string& engine) {
  return !identity_basis(program_.programs(), engine, "").empty();
}

Result<WasmExecutor::Ready> WasmExecutor::prepare_on(const std::string& engine,
                                                     const ExecContext& context,
                                                     const wasm::GuestOptions& options,
                                                     const detect::Verdict& verdict) {
  zygote(engine).begin();
  TRY_ASSIGN(const Identity identity, this->identity(engine, options));
  TRY(check_kind(identity, verdict));
  const Order order{context, options, identity, verdict};
  TRY_ASSIGN(Artifact artifact, this->artifact(order));
  if (!artifact.wants_libraries.empty()) {
    TRY_ASSIGN(artifact.code, linked(order, artifact.wants_libraries));
  }
  return Ready{engine, std::move(artifact)};
}

/// Annotation, then what the program was told (its name, its runtime options), then what fits.
Result<WasmExecutor::Ready> WasmExecutor::prepare(const ExecContext& context,
                                                  const wasm::GuestOptions& options,
                                                  const detect::Verdict& verdict) {
  const std::string& chosen = options.engine.empty() ? options_.engine : options.engine;
  const std::string engine = engine_or_default(chosen);
  TRY_ASSIGN(Ready ready, prepare_on(engine, context, options, verdict));
  std::string why = ready.artifact.wants_threads;
  if (why.empty()) return ready;
  const std::string other(kThreadsEngine);
  if (engine == other) return fail(Errc::kUnsupported, why);
  if (!chosen.empty()) {
    why += "; engine " + other + " has them (annotation amphora.dev/engine: " + other + ")";
  } else if (!is_installed(other)) {
    why += "; engine " + other + " has them and is not installed";
  } else {
    TRY_ASSIGN(ready, prepare_on(other, context, options, verdict));
    why = ready.artifact.wants_threads;
    if (why.empty()) return ready;
  }
  return fail(Errc::kUnsupported, why);
}

Result<void> WasmExecutor::warm(const wasm::GuestOptions& options, const detect::Verdict& verdict) {
  const oci::Spec spec{};
  const std::string id;
  const ExecContext context{id, spec, nullptr};
  TRY(prepare(context, options, verdict));
  return {};
}

uint64_t WasmExecutor::memory_of(const ExecContext& context, const wasm::GuestOptions& options) {
  // A quarter more: what is used beyond the limit ends the guest as it ends a native program (137, an
  // OOM event); what is only reserved far beyond it is refused.
  uint64_t limit = memory_limit(context.spec).value_or(0);
  limit = limit > UINT64_MAX / 2 ? 0 : limit + limit / 4;
  if (options.memory_max == 0 || limit == 0) return std::max(options.memory_max, limit);
  return std::min(options.memory_max, limit);
}

Result<setup::ExecPlan> WasmExecutor::plan_exec(const ExecContext& context,
                                                const oci::Process& process,
                                                detect::Verdict&& verdict) {
  TRY_ASSIGN(const wasm::GuestOptions options, wasm::read_options(context.spec.annotations));
  TRY_ASSIGN(Ready ready, prepare(context, options, verdict));

  wasm::Handover handover;
  handover.path = verdict.path;
  handover.function = verdict.function;
  handover.cwd = process.cwd;
  handover.args = process.args;
  handover.env = process.env;
  handover.options = options.engine_options;
  handover.listen = options.listen;
  handover.backlog = options.backlog;
  handover.memory_limit = memory_of(context, options);
  if (options.preopens) {
    handover.flags |= wasm::kPreopensGiven;
    for (const wasm::Preopen& one : *options.preopens) {
      handover.preopens.insert(handover.preopens.end(),
                               {one.path, one.name, one.read_only ? "ro" : "rw"});
    }
  }

  setup::ExecPlan plan;
  plan.candidates = {verdict.path};
  plan.name = process.args.empty() ? verdict.path : process.args.front();
  plan.argv = process.args;
  plan.env = process.env;
  plan.handover = encode(handover);
  if (needs_view(options))
    plan.covered.assign(std::begin(wasm::kKernelFiles), std::end(wasm::kKernelFiles));
  plan.fds.push_back(std::move(ready.artifact.code));
  plan.spawner = &zygote(ready.engine);
  plan.kind = "wasm";
  return plan;
}

}  // namespace amphora
