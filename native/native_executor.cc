// SPDX-License-Identifier: Apache-2.0
// Candidates, arguments and environment of a native program. See native_executor.h.
#include "native/native_executor.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/executor.h"
#include "executor/oci/spec.h"
#include "executor/setup/exec_plan.h"

namespace amphora::native {
namespace {

/// What runc searches when the container sets no PATH.
constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string_view path_of(const std::vector<std::string>& env) {
  std::string_view path;
  bool set = false;
  for (const std::string& entry : env) {
    if (!entry.starts_with("PATH=")) continue;
    path = std::string_view(entry).substr(5);
    set = true;
  }
  return set ? path : kDefaultPath;
}

/// execvp(3): a name with a slash is itself; an empty element of PATH is the working directory.
std::vector<std::string> candidates_for(const std::string& name, std::string_view path) {
  if (name.find('/') != std::string::npos) return {name};
  std::vector<std::string> candidates;
  while (true) {
    const size_t colon = path.find(':');
    const std::string_view dir = path.substr(0, colon);
    candidates.push_back(dir.empty() ? "./" + name : std::string(dir) + "/" + name);
    if (colon == std::string_view::npos) return candidates;
    path.remove_prefix(colon + 1);
  }
}

/// The last of several values of one name wins, as runc has it.
std::vector<std::string> without_duplicates(const std::vector<std::string>& env) {
  std::vector<std::string> kept;
  kept.reserve(env.size());
  for (auto entry = env.rbegin(); entry != env.rend(); ++entry) {
    const std::string_view name = std::string_view(*entry).substr(0, entry->find('=') + 1);
    const bool known = std::ranges::any_of(
        kept, [&](const std::string& other) { return other.starts_with(name); });
    if (!known) kept.push_back(*entry);
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace

Result<setup::ExecPlan> NativeExecutor::plan_exec(const ExecContext&, const oci::Process& process,
                                                  detect::Verdict&& verdict) {
  setup::ExecPlan plan;
  plan.kind = detect::to_string(verdict.kind);
  plan.name = process.args.front();
  plan.candidates = candidates_for(plan.name, path_of(process.env));
  // Detection has searched the same list: begin where it found the program.
  const auto found = std::ranges::find(plan.candidates, verdict.path);
  if (found != plan.candidates.end()) {
    plan.candidates.erase(plan.candidates.begin(), found);
    plan.first_is_file = true;
  }
  plan.argv = process.args;
  plan.env = without_duplicates(process.env);
  if (!verdict.why_not.empty()) plan.why_not = " (" + verdict.why_not + ")";
  return plan;
}

}  // namespace amphora::native
