// SPDX-License-Identifier: Apache-2.0
// Where our own other files are: the wasm host and the engines. Ours are found beside the running
// program, so that a tree works wherever it was installed, or built.
#pragma once

#include <string>

namespace amphora::wasm {

struct Programs {
  std::string host;          ///< amphora-wasm
  std::string engine_dir;    ///< libamphora-engine-NAME.so, libamphora-compiler-NAME.so
  std::string image = {};    ///< amphora-image, which the command executes for its verb image
  std::string content = {};  ///< amphora-content, which reads images from containerd
};

/// AMPHORA_WASM_HOST and AMPHORA_ENGINE_DIR, else PREFIX/libexec/amphora and PREFIX/lib/amphora of the
/// program that runs (found by /proc/self/exe; or, as that says nothing once it runs from a sealed
/// copy, by AMPHORA_BIN_DIR or its argv[0] and PATH), else those of the configured prefix.
Programs find_programs();

/// The same for a given directory of the running program; empty members where nothing was found.
Programs find_programs_beside(const std::string& directory);

}  // namespace amphora::wasm
