// SPDX-License-Identifier: Apache-2.0
// See exec_process.h.
#include "executor/cli/exec_process.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/cli/options.h"
#include "executor/oci/spec.h"

namespace amphora::cli {
namespace {

std::optional<uint32_t> parse_id(std::string_view text) {
  const auto number = parse_number(text);
  // The highest one means "leave as it is" to setresuid(2): root, then.
  if (!number || *number < 0 || *number >= std::numeric_limits<uint32_t>::max())
    return std::nullopt;
  return static_cast<uint32_t>(*number);
}

Result<void> set_user(oci::User& user, std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view uid_text = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const auto gid = parse_id(text.substr(colon + 1));
    if (!gid) {
      return fail(Errc::kInvalid,
                  "parsing " + std::string(text.substr(colon + 1)) + " as int for gid failed");
    }
    user.gid = *gid;
  }
  const auto uid = parse_id(uid_text);
  if (!uid) {
    return fail(Errc::kInvalid, "parsing " + std::string(uid_text) + " as int for uid failed");
  }
  user.uid = *uid;
  return {};
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

void add_capabilities(oci::Process& process, const std::vector<std::string>& names) {
  if (names.empty()) return;
  if (!process.capabilities) process.capabilities.emplace();
  oci::Capabilities& sets = *process.capabilities;
  for (const std::string& name : names) {
    add_once(sets.bounding, name);
    add_once(sets.effective, name);
    add_once(sets.permitted, name);
    // The kernel raises an ambient capability only when it is inheritable too.
    const auto& inheritable = sets.inheritable;
    if (std::find(inheritable.begin(), inheritable.end(), name) != inheritable.end()) {
      add_once(sets.ambient, name);
    }
  }
}

Result<void> add_groups(oci::User& user, const std::vector<std::string>& groups) {
  for (const std::string& words : groups) {
    for (std::string_view rest = words; !rest.empty();) {
      const size_t comma = rest.find(',');
      const std::string_view word = rest.substr(0, comma);
      const auto gid = parse_id(word);
      if (!gid) {
        return fail(Errc::kInvalid,
                    "additional-gids must be a positive number " + std::string(word));
      }
      user.additional_gids.push_back(*gid);
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
  }
  return {};
}

}  // namespace

Result<oci::Process> exec_process(oci::Process base, const ExecOptionsLine& line,
                                  std::vector<std::string> args) {
  oci::Process process = std::move(base);
  process.args = std::move(args);
  if (!line.cwd.empty()) process.cwd = line.cwd;
  if (!line.apparmor.empty()) process.apparmor_profile = line.apparmor;
  if (!line.process_label.empty()) process.selinux_label = line.process_label;
  add_capabilities(process, line.caps);
  for (const std::string& variable : line.env) {
    const size_t equals = variable.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(Errc::kInvalid, "invalid environment variable: " + variable);
    }
    process.env.push_back(variable);
  }
  // The container's own terminal says nothing about this process.
  process.terminal = line.tty;
  process.console_size.reset();
  if (line.no_new_privs) process.no_new_privileges = *line.no_new_privs;
  if (line.user) TRY(set_user(process.user, *line.user));
  TRY(add_groups(process.user, line.additional_gids));
  return process;
}

}  // namespace amphora::cli
