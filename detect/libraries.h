// SPDX-License-Identifier: Apache-2.0
// The files that an annotation names as libraries of a wasm entrypoint, found as the entrypoint is: through
// the container's mounts. Not here: whether they are WebAssembly (the compile process), and layers of images.
#pragma once

#include <vector>

#include "detect/verdict.h"
#include "detect/view.h"
#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

/// In the annotation's order; none without it.
Result<std::vector<Library>> find_libraries(View& view, const oci::Spec& spec,
                                            const oci::Process& process);

}  // namespace amphora::detect
