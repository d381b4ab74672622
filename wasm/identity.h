// SPDX-License-Identifier: Apache-2.0
// What a remembered engine identity depends on: the engine's two files and this CPU. Lets a start ask
// neither the compiler (a process and 29 MB to load) nor the engine for its cache key.
#pragma once

#include <string>
#include <string_view>

#include "wasm/compile_protocol.h"
#include "wasm/programs.h"

namespace amphora::wasm {

/// Bytes that change when the engine is replaced or the machine is another. Empty when a file is missing.
std::string identity_basis(const Programs& programs, const std::string& engine,
                           std::string_view options);
/// A note of the cache: the basis and the identity. False when the note is of another basis.
std::string pack_identity(std::string_view basis, const Identity& identity);
bool unpack_identity(std::string_view note, std::string_view basis, Identity* identity);

}  // namespace amphora::wasm
