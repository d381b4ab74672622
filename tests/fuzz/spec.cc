// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as config.json and as a process object. Beyond not crashing, what is
// accepted must hold what the parser promises.
#include "executor/oci/spec.h"

#include <algorithm>

#include "detect/entrypoint.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

void check_env(const std::vector<std::string>& env) {
  for (const auto& entry : env) AMPHORA_CHECK(entry.find('=') + 1 > 1);
}

void check_process(const oci::Process& process) {
  AMPHORA_CHECK(!process.args.empty());
  AMPHORA_CHECK(process.cwd.starts_with('/'));
  AMPHORA_CHECK(process.user.uid != UINT32_MAX && process.user.gid != UINT32_MAX);
  for (const uint32_t group : process.user.additional_gids) AMPHORA_CHECK(group != UINT32_MAX);
  for (const auto& arg : process.args) AMPHORA_CHECK(!arg.contains('\0'));
  for (const auto& limit : process.rlimits) AMPHORA_CHECK(limit.soft <= limit.hard);
  check_env(process.env);
  // What the program's name may stand for: bounded, and from the container's root.
  const auto paths = detect::candidate_paths(process, process.args.front());
  AMPHORA_CHECK(paths.size() <= 256);
  for (const auto& path : paths) AMPHORA_CHECK(path.starts_with('/'));
}

void check_hooks(const std::vector<oci::Hook>& hooks) {
  for (const auto& hook : hooks) {
    AMPHORA_CHECK(hook.path.starts_with('/'));
    AMPHORA_CHECK(!hook.timeout || *hook.timeout > 0);
    check_env(hook.env);
  }
}

void check_spec(const oci::Spec& spec) {
  AMPHORA_CHECK(!spec.root.path.empty());
  if (spec.process) check_process(*spec.process);
  const oci::Hooks& hooks = spec.hooks;
  for (const auto* list : {&hooks.prestart, &hooks.create_runtime, &hooks.create_container,
                           &hooks.start_container, &hooks.poststart, &hooks.poststop}) {
    check_hooks(*list);
  }
  for (const auto& mount : spec.mounts) AMPHORA_CHECK(!mount.destination.empty());
  for (const auto& device : spec.linux_.devices) AMPHORA_CHECK(device.path.starts_with('/'));
  for (const auto& ns : spec.linux_.namespaces) {
    AMPHORA_CHECK(ns.path.empty() || ns.path.starts_with('/'));
    AMPHORA_CHECK(std::ranges::count(spec.linux_.namespaces, ns.kind, &oci::Namespace::kind) == 1);
  }
  AMPHORA_CHECK(!spec.annotations.contains(""));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json = fuzz::text_of(data, size);
  const auto spec = oci::parse_spec(json);
  fuzz::check_error(spec, size);
  const auto annotations = oci::parse_annotations(json);
  fuzz::check_error(annotations, size);
  if (spec) {
    check_spec(*spec);
    // The shim's start path reads the annotations alone.
    AMPHORA_CHECK(annotations && *annotations == spec->annotations);
  }
  const auto process = oci::parse_process(json);
  fuzz::check_error(process, size);
  if (process) check_process(*process);
  return 0;
}
