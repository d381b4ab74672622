// SPDX-License-Identifier: Apache-2.0
// Answers about a bundle without making anything: detection alone, and the plan as text.

#include <expected>
#include <map>
#include <string>
#include <utility>

#include "detect/detect.h"
#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"
#include "executor/runtime/parts.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/plan.h"

namespace amphora {

Result<detect::Verdict> Runtime::detect_bundle(const std::string& bundle_path) {
  TRY_ASSIGN(const runtime::Bundle bundle, runtime::open_bundle(bundle_path, ""));
  auto rootfs = runtime::open_rootfs(bundle.rootfs);
  if (!rootfs) return std::unexpected(std::move(rootfs).error());
  return detect::detect(bundle.spec, *bundle.spec.process, rootfs->get(), wat_check_,
                        /*mounts_made=*/false, bundle.dir.get());
}

/// The files come first: who has a program in its root never asks, and pays nothing. An exec means the
/// image's module only by the name that init has it by. Returns why an image gave none although it could:
/// create's error then says that there is no such file, and this.
Result<std::string> Runtime::look_into_image(const std::string& id, const oci::Spec& spec,
                                             const oci::Process& process,
                                             detect::Verdict* verdict) {
  if (!from_image_ || !verdict->path.empty()) return std::string();
  const auto file_of = [](const std::string& name) { return name.substr(0, name.find('#')); };
  if (spec.process && !spec.process->args.empty() &&
      file_of(process.args[0]) != file_of(spec.process->args[0])) {
    return std::string();
  }
  TRY_ASSIGN(const bool allowed, detect::is_wasm_allowed(spec));
  if (!allowed) return std::string();
  auto found = from_image_(id, spec, process.args[0]);
  if (found && found->kind != detect::Kind::kNative) *verdict = std::move(*found);
  // An image of native programs has no layer for anybody, and then there just is no such file.
  if (!found) return std::move(found).error().what();
  return std::string();
}

Result<std::string> Runtime::describe_plan(const std::string& bundle_path, bool json) {
  TRY_ASSIGN(const runtime::Bundle bundle, runtime::open_bundle(bundle_path, ""));
  TRY_ASSIGN(const detect::Verdict verdict, detect_bundle(bundle_path));
  setup::ExecPlan exec;
  exec.kind = detect::to_string(verdict.kind);
  exec.name = bundle.spec.process->args.front();
  if (verdict.kind == detect::Kind::kNative) {
    exec.candidates = {exec.name};
  } else {
    exec.handover = exec.kind;  // only that there is one decides about the steps
  }
  // Where the cgroup would be is known only once it is made; a mount of it shows the hierarchy.
  const std::map<std::string, std::string> no_paths;
  setup::PlanInput input{bundle.path,   bundle.spec, *bundle.spec.process, host_, exec,
                         bundle.rootfs, no_paths};
  input.start_socket = 0;  // any: shows the wait, nothing is opened
  TRY_ASSIGN(const setup::Plan plan, setup::make_plan(input));
  return json ? plan.describe_json() : plan.describe();
}

}  // namespace amphora
