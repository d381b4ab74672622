// SPDX-License-Identifier: Apache-2.0
// Detection: Spec and rootfs in, Verdict out, from bytes and nothing else, once per process. The
// table is docs/detection.md. An annotation may forbid wasm or name the engine, never invent a kind.
#pragma once

#include <functional>
#include <string>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

/// Asks the limited compile process whether a text is wat. Ok: it is. Error: why not (one line).
/// `module` is a regular file opened read-only.
using WatCheck = std::function<Result<void>(int module)>;

/// Decides for `process` (init's or an exec's) of a container whose root is `rootfs_fd` (O_PATH or a
/// directory). Looked up as the container will see it: through the spec's mounts (not yet made when
/// `mounts_made` is false), the container's PATH, cwd and user.
/// A missing entrypoint is not decided here: native, with why_not set; init's exec tells.
Result<Verdict> detect(const oci::Spec& spec, const oci::Process& process, int rootfs_fd,
                       const WatCheck& wat_check, bool mounts_made = false);

}  // namespace amphora::detect
