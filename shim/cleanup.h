// SPDX-License-Identifier: Apache-2.0
// The `delete` action: containerd runs it after every disconnect from a task, normal ends included.
// It removes what is left of one container and nothing of its neighbours, and is quick when nothing
// is.
#pragma once

#include "shim/flags.h"

namespace amphora::shim {

/// stdout gets a DeleteResponse. Returns the exit code.
int remove_leftovers(const Flags& flags);

}  // namespace amphora::shim
