// SPDX-License-Identifier: Apache-2.0
// A layer's bytes as they are to be compiled: uncompressed, checked, in memory that nobody can change.
#pragma once

#include "content/api.h"
#include "executor/base/fd.h"

namespace amphora::content {

/// A sealed memfd with the module in the layer.
Result<UniqueFd> module_of(Api& api, const image::Descriptor& layer);

}  // namespace amphora::content
