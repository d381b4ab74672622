// SPDX-License-Identifier: Apache-2.0
// The documents of an OCI image as values: descriptors, manifest, index, config, and which media types
// mean WebAssembly. Reading them never throws and trusts nothing but the size its caller has bounded.
// Not here: where the bytes come from (archive; content/) and how documents are written (build).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora::image {

inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kWasmConfig = "application/vnd.wasm.config.v0+json";
inline constexpr std::string_view kWasmLayer = "application/wasm";
/// What runwasi's tool gives a module or component in an image.
inline constexpr std::string_view kComponentLayer =
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
inline constexpr std::string_view kTitle = "org.opencontainers.image.title";
inline constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
inline constexpr std::string_view kImageName = "io.containerd.image.name";

/// No document of an image is larger; containerd's own bound is 8 MiB.
inline constexpr size_t kMaxDocument = size_t{4} << 20;

enum class Packing : uint8_t { kNone, kGzip, kZstd };

struct Platform {
  std::string os, architecture, variant;
  /// "wasi/wasm"
  std::string text() const;
  bool is_wasm() const { return architecture == "wasm" || architecture == "wasm32"; }
};
/// "OS/ARCHITECTURE[/VARIANT]".
Result<Platform> parse_platform(std::string_view text);

struct Descriptor {
  std::string media_type, digest;
  uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
};

struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;
};

struct Config {
  Platform platform;
  std::vector<std::string> entrypoint, cmd, env, diff_ids;
  std::vector<std::string> layer_digests;  ///< of kWasmConfig
};

bool is_index(std::string_view media_type);
bool is_manifest(std::string_view media_type);
/// A layer that containerd unpacks.
bool is_tar_layer(std::string_view media_type);
/// A layer whose bytes are one module or component: application/wasm, or a type with the suffix
/// "+wasm" (both may be followed by "+gzip" or "+zstd"), or one of `more`, which an engine declares.
bool is_wasm_layer(std::string_view media_type, const std::vector<std::string>& more = {});
/// How a layer of this type is compressed.
Packing packing_of(std::string_view media_type);

/// "sha256:" and 64 lower-case digits: the only form we have a check for.
bool is_digest(std::string_view text);
std::string digest_text(std::string_view bytes);

Result<std::vector<Descriptor>> parse_index(std::string_view json);
Result<Manifest> parse_manifest(std::string_view json);
/// Of either config type; unknown members are skipped.
Result<Config> parse_config(std::string_view json);

}  // namespace amphora::image
