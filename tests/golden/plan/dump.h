// SPDX-License-Identifier: Apache-2.0
// A plan as text with everything that decides what the child and its parent will do: more than
// Plan::describe, which is for people.
#pragma once

#include <string>

#include "executor/setup/plan.h"

namespace amphora::setup {

std::string dump(const Plan& plan);

}  // namespace amphora::setup
