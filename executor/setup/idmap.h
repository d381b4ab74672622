// SPDX-License-Identifier: Apache-2.0
// Which id maps a mount with "idmap" or "ridmap" gets: its own members, crun's text in the option, or
// the container's user namespace. Pure; the namespace that carries them is made when the plan's
// sources are opened.
#pragma once

#include <string_view>

#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/mount_options.h"
#include "executor/setup/plan.h"

namespace amphora::setup {

/// Sets the source's map. kInvalid when there is none or only half of one.
Result<void> set_idmap(const oci::Spec& spec, const oci::Mount& mount, const MountOptions& options,
                       Source& source);

/// crun's "uids=0-1000-1#10-2000-5;gids=0-1000-1": ids on the filesystem, ids they become, how many;
/// "@" before a triplet: what they become is an id inside the container's user namespace.
Result<IdMaps> parse_idmap(std::string_view text, const oci::Linux& container);

}  // namespace amphora::setup
