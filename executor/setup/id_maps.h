// SPDX-License-Identifier: Apache-2.0
// Giving a container's new user namespace its id maps: by the kernel's files where we may, by the
// setuid helpers newuidmap(1) and newgidmap(1) of package uidmap where a caller without CAP_SETUID
// wants more than its own id. Not here: the maps of id-mapped mounts (user_namespace.h).
#pragma once

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/setup/host.h"
#include "executor/setup/user_namespace.h"

namespace amphora::setup {

/// How a map comes to be written.
enum class MapWriter : uint8_t {
  kKernelFile,  ///< by us, with a capability over the parent namespace
  kOwnId,       ///< by us, for a map of nothing but our own id (user_namespaces(7))
  kHelper,      ///< by newuidmap or newgidmap, within /etc/subuid and /etc/subgid
};

/// `own`: our effective id of that kind. `capable`: CAP_SETUID or CAP_SETGID.
MapWriter map_writer(const std::vector<oci::IdMapping>& map, uint32_t own, bool capable) noexcept;

/// Writes both maps of the user namespace that process `pid` is in. An unprivileged caller's process
/// must be dumpable meanwhile. `children` learns of the helpers. kUnsupported: a helper is missing.
Result<void> write_id_maps(const Host& host, pid_t pid, const IdMaps& maps, Children& children);

}  // namespace amphora::setup
