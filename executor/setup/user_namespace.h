// SPDX-License-Identifier: Apache-2.0
// User namespaces that are held only by a descriptor: those whose maps an id-mapped mount uses. The
// kernel ties a namespace to a process, so each costs a tiny child for the moment of its making. Also
// reading the maps of a namespace that somebody else made. Not here: the container's own namespace
// (namespaces.cc), which its init is born into.
#pragma once

#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

struct IdMaps {
  std::vector<oci::IdMapping> uids, gids;
};

/// "0 100000 65536\n..." as /proc/PID/uid_map takes it.
std::string mappings_text(const std::vector<oci::IdMapping>& mappings);

/// A new user namespace with these maps; no process lives in it.
Result<UniqueFd> make_user_namespace(const IdMaps& maps);

/// The maps of a user namespace, as the caller's own namespace sees them.
Result<IdMaps> maps_of(int user_namespace_fd);

}  // namespace amphora::setup
