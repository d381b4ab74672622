// SPDX-License-Identifier: Apache-2.0
// See wasm_executor.h.
#include "wasm/wasm_executor.h"

#include <cstring>

#include "amphora/engine.h"
#include "wasm/handover.h"
#include "wasm/identity.h"
#include "wasm/module.h"
#include "wasm/sha256.h"

namespace amphora {
namespace {

using wasm::Identity;

/// "amphora.dev/engine.backtrace: full" is option "backtrace" of the engine.
constexpr std::string_view kOptionPrefix = "amphora.dev/engine.";
/// "off": compile in the container's cgroup, however little it allows.
constexpr std::string_view kFloorAnnotation = "amphora.dev/compile-floor";

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

/// All that an artifact depends on. The engine's cache_key covers its flags, options and the CPU.
std::string key_of(const Identity& identity, const wasm::Digest& module) {
  wasm::Sha256 hash;
  hash.update(module.data(), module.size());
  hash.update(identity.engine, sizeof identity.engine);
  hash.update(identity.version, sizeof identity.version);
  hash.update(&identity.cache_key, sizeof identity.cache_key);
  return wasm::to_hex(hash.finish());
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
      compiler_(program_, options_.limits) {}

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

Result<WasmExecutor::Choice> WasmExecutor::choose(const oci::Spec& spec,
                                                  const std::string& engine) {
  Choice choice{engine, {}, false};
  for (const auto& [key, value] : spec.annotations) {
    if (key == detect::kEngineAnnotation) {
      choice.engine = value;
    } else if (key == kFloorAnnotation) {
      if (value != "off" && value != "on") {
        return fail(Errc::kInvalid,
                    "annotations[\"" + key + "\"]: \"" + value + "\" is neither on nor off");
      }
      choice.always_inside = value == "off";
    } else if (key.starts_with(kOptionPrefix)) {
      choice.options.push_back(key.substr(kOptionPrefix.size()));
      choice.options.push_back(value);
    }
  }
  return choice;
}

Result<Identity> WasmExecutor::identity(const Choice& choice) {
  std::string options;
  for (const std::string& word : choice.options) options.append(word).push_back('\0');
  const std::string basis = identity_basis(program_.programs(), choice.engine, options);
  const std::string name = choice.engine + '\0' + basis;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = identities_.find(name); known != identities_.end()) return known->second;
  }
  // A few notes per machine: one for each engine and set of options in use.
  const std::string note = "engine-" + choice.engine + "-" +
                           wasm::to_hex(wasm::sha256(options.data(), options.size())).substr(0, 16);
  Identity identity{};
  if (!unpack_identity(cache().note(note), basis, &identity)) {
    TRY_ASSIGN(identity, compiler_.identify(choice.engine, choice.options));
    cache().set_note(note, pack_identity(basis, identity));
  }
  const std::lock_guard lock(mutex_);
  identities_[name] = identity;
  return identity;
}

Result<UniqueFd> WasmExecutor::artifact(const ExecContext& context, const Choice& choice,
                                        const Identity& identity, const detect::Verdict& verdict) {
  const int module = verdict.module.get();
  TRY_ASSIGN(const wasm::Digest digest, wasm::digest_module(module));
  if (UniqueFd found = cache().find(key_of(identity, digest))) return found;
  TRY_ASSIGN(const wasm::FrozenModule frozen, wasm::freeze_module(module));
  return cache().get(key_of(identity, frozen.digest), [&] {
    wasm::CompileRequest request;
    request.engine = choice.engine;
    request.options = choice.options;
    request.module = frozen.fd.get();
    request.name = verdict.path;
    request.cgroup = context.cgroup;
    request.memory_limit = memory_limit(context.spec);
    request.little_cpu = has_little_cpu(context.spec);
    request.always_inside = choice.always_inside;
    return compiler_.compile(request);
  });
}

Result<setup::ExecPlan> WasmExecutor::plan_exec(const ExecContext& context,
                                                const oci::Process& process,
                                                detect::Verdict&& verdict) {
  TRY_ASSIGN(const Choice choice, choose(context.spec, options_.engine));
  wasm::Zygote& zygote = this->zygote(choice.engine);
  zygote.begin();
  TRY_ASSIGN(const Identity identity, this->identity(choice));
  TRY(check_kind(identity, verdict));
  TRY_ASSIGN(UniqueFd artifact, this->artifact(context, choice, identity, verdict));

  wasm::Handover handover;
  handover.path = verdict.path;
  handover.function = verdict.function;
  handover.cwd = process.cwd;
  handover.args = process.args;
  handover.env = process.env;
  handover.options = choice.options;

  setup::ExecPlan plan;
  plan.candidates = {verdict.path};
  plan.name = process.args.empty() ? verdict.path : process.args.front();
  plan.argv = process.args;
  plan.env = process.env;
  plan.handover = encode(handover);
  plan.fds.push_back(std::move(artifact));
  plan.spawner = &zygote;
  plan.kind = "wasm";
  return plan;
}

}  // namespace amphora
