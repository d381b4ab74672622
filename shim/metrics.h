// SPDX-License-Identifier: Apache-2.0
// A cgroup's numbers as the message that containerd's clients expect, v1's on v1 and hybrid hosts.
#pragma once

#include "executor/cgroup/cgroup.h"

namespace amphora::proto {
class Any;
}

namespace amphora::shim {

void encode_stats(const cgroup::Stats& stats, proto::Any& out);

}  // namespace amphora::shim
