// SPDX-License-Identifier: Apache-2.0
// The features document of the runtime spec: what this build and this host can do, in the words of
// the spec. A library of its own, because the shim hands the same text to containerd.
#pragma once

#include <string>

namespace amphora::setup {
struct Host;
}

namespace amphora::cli {

/// The spec's version that we honour, and the runc whose command line we speak.
inline constexpr char kSpecVersion[] = "1.3.0";
inline constexpr char kRuncLevel[] = "1.3.0";

/// JSON with an indent of four spaces, without a newline at the end. Asks nobody and forks nothing:
/// podman wants it before every container.
std::string features_json(const setup::Host& host);

}  // namespace amphora::cli
