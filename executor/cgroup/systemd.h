// SPDX-License-Identifier: Apache-2.0
// The systemd driver: a scope (or slice) made over D-Bus, with the v1 or v2 driver inside for all that
// units cannot say.
#pragma once

#include <memory>
#include <string>

#include "executor/cgroup/cgroup.h"

namespace amphora::cgroup {

Result<std::unique_ptr<Cgroup>> create_systemd(const std::string& id, const oci::Linux& linux_,
                                               const setup::Host& host, const Options& options);
/// Wraps the cgroup found again from a state that names a unit.
std::unique_ptr<Cgroup> open_systemd(std::string unit, std::unique_ptr<Cgroup> inner,
                                     const setup::Host& host);

}  // namespace amphora::cgroup
