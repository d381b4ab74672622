// SPDX-License-Identifier: Apache-2.0
// The -info flag: a RuntimeInfo message with the features document, for containerd 2.0 and later.
#pragma once

namespace amphora::shim {

/// stdin: the runtime options, echoed. Returns the exit code.
int print_info();

}  // namespace amphora::shim
