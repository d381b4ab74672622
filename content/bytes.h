// SPDX-License-Identifier: Apache-2.0
// A layer's bytes as they are to be compiled: uncompressed, checked, in memory that nobody can change.
#pragma once

#include "content/api.h"
#include "executor/base/fd.h"

namespace amphora::content {

/// A sealed memfd with the module in the layer.
Result<UniqueFd> module_of(Api& api, const image::Descriptor& layer);

/// What its kind can be told from: the first bytes of a binary that is not compressed, which nobody has
/// compared with the digest yet; else all of the module.
Result<UniqueFd> head_of(Api& api, const image::Descriptor& layer);

}  // namespace amphora::content
