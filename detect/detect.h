// SPDX-License-Identifier: Apache-2.0
// Detection: Spec and rootfs in, Verdict out, from bytes and nothing else, once per process. The
// table is docs/detection.md. An annotation may forbid wasm or name the engine, never invent a
// kind.
#pragma once

#include <fcntl.h>

#include <functional>
#include <string>
#include <string_view>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

/// "off": never wasm. "on" or absent: decided by bytes. Any other value is refused.
inline constexpr std::string_view kWasmAnnotation = "amphora.dev/wasm";
/// Name of the engine that runs a wasm guest; without effect on detection.
inline constexpr std::string_view kEngineAnnotation = "amphora.dev/engine";
/// Files of the container that the entrypoint may import from: absolute paths, commas between.
inline constexpr std::string_view kLinkAnnotation = "amphora.dev/engine.link";
/// Answers, in the state of a container: the verdict's kind and reason.
inline constexpr std::string_view kKindAnnotation = "amphora.dev/kind";
inline constexpr std::string_view kReasonAnnotation = "amphora.dev/reason";

/// Asks the limited compile process whether a text is wat. Ok: it is. Error: why not (one line).
/// `module` is a regular file opened read-only.
using WatCheck = std::function<Result<void>(int module)>;

/// The largest text that is handed to a WatCheck.
inline constexpr size_t kMaxWatBytes = size_t{16} << 20;

/// Decides for `process` (init's or an exec's) of a container whose root is `rootfs_fd` (O_PATH or
/// a directory). Looked up as the container will see it: through the spec's mounts (not yet made
/// when `mounts_made` is false), the container's PATH, cwd and user. `bundle_fd` is the base of
/// relative bind sources; the default takes the working directory for it. A missing entrypoint is
/// not decided here: native, with why_not set; init's exec tells. A wasm verdict has the libraries that
/// the annotation kLinkAnnotation names; one that is not there is an error.
Result<Verdict> detect(const oci::Spec& spec, const oci::Process& process, int rootfs_fd,
                       const WatCheck& wat_check, bool mounts_made = false,
                       int bundle_fd = AT_FDCWD);

/// Decides for a module that is no file of the container but a layer of its image: by the same bytes.
/// `name` is args[0]; `origin` says in words where it came from. An error when it is no WebAssembly.
Result<Verdict> detect_layer(UniqueFd module, std::string_view name, std::string_view origin,
                             const WatCheck& wat_check);

/// Whether the annotations allow to run WebAssembly as such.
Result<bool> is_wasm_allowed(const oci::Spec& spec);

}  // namespace amphora::detect
