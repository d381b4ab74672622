// SPDX-License-Identifier: Apache-2.0
// The config.json of a pod's sandbox where nobody wrote one: a program that holds namespaces for the
// pod's containers to join, and needs nothing itself. Not here: what a pod asks for (shim/sandbox_config).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "executor/oci/spec.h"

namespace amphora::oci {

struct SandboxSpec {
  std::string root;      ///< the root file system, in the bundle
  std::string program;   ///< its path in there
  std::string hostname;  ///< empty: as the host is called
  std::string cgroups_path;
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, std::string> sysctl, annotations;
  std::optional<int> oom_score_adj;
};

std::string sandbox_spec_json(const SandboxSpec& sandbox);

}  // namespace amphora::oci
