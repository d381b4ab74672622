// SPDX-License-Identifier: Apache-2.0
// See manifest.h. nlohmann-json without exceptions: what does not parse, or is of another type than it
// should, is an error with the member's name.
#include "image/manifest.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "executor/base/error.h"
#include "wasm/sha256.h"

namespace amphora::image {
namespace {

using Json = nlohmann::json;

Result<Json> parse(std::string_view text, const char* what) {
  if (text.size() > kMaxDocument) {
    return fail(Errc::kInvalid,
                std::string(what) + " has more than " + std::to_string(kMaxDocument) + " bytes");
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return fail(Errc::kInvalid, std::string(what) + " is not a JSON object");
}

const Json* find(const Json& object, const char* name) {
  const auto at = object.find(name);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::string text_of(const Json& object, const char* name) {
  const Json* value = find(object, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

std::vector<std::string> texts_of(const Json& object, const char* name) {
  std::vector<std::string> out;
  const Json* value = find(object, name);
  if (value == nullptr || !value->is_array()) return out;
  for (const Json& one : *value) {
    if (one.is_string()) out.push_back(one.get<std::string>());
  }
  return out;
}

Platform platform_of(const Json& object) {
  return {text_of(object, "os"), text_of(object, "architecture"), text_of(object, "variant")};
}

Result<Descriptor> descriptor_of(const Json& object, const std::string& where) {
  if (!object.is_object()) return fail(Errc::kInvalid, where + " is no object");
  Descriptor out;
  out.media_type = text_of(object, "mediaType");
  out.digest = text_of(object, "digest");
  const Json* size = find(object, "size");
  if (!is_digest(out.digest)) {
    return fail(Errc::kInvalid, where + ".digest \"" + out.digest + "\" is no sha256 digest");
  }
  if (size == nullptr || !size->is_number_unsigned()) {
    return fail(Errc::kInvalid, where + ".size is missing or no size");
  }
  out.size = size->get<uint64_t>();
  if (const Json* annotations = find(object, "annotations"); annotations != nullptr) {
    for (const auto& [key, value] : annotations->items()) {
      if (value.is_string()) out.annotations[key] = value.get<std::string>();
    }
  }
  if (const Json* platform = find(object, "platform"); platform != nullptr) {
    if (platform->is_object()) out.platform = platform_of(*platform);
  }
  return out;
}

Result<std::vector<Descriptor>> descriptors_of(const Json& object, const char* name) {
  const Json* list = find(object, name);
  std::vector<Descriptor> out;
  if (list == nullptr || !list->is_array()) {
    return fail(Errc::kInvalid, std::string(name) + " is missing or no list");
  }
  for (const Json& one : *list) {
    const std::string where = std::string(name) + "[" + std::to_string(out.size()) + "]";
    TRY_ASSIGN(Descriptor descriptor, descriptor_of(one, where));
    out.push_back(std::move(descriptor));
  }
  return out;
}

std::string_view without_packing(std::string_view type) {
  for (const std::string_view suffix : {"+gzip", "+zstd", ".gzip"}) {
    if (type.ends_with(suffix)) return type.substr(0, type.size() - suffix.size());
  }
  return type;
}

}  // namespace

std::string Platform::text() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Result<Platform> parse_platform(std::string_view text) {
  Platform out;
  const size_t first = text.find('/');
  const size_t second = first == text.npos ? text.npos : text.find('/', first + 1);
  if (first != text.npos) {
    out.os = text.substr(0, first);
    out.architecture = text.substr(first + 1, second == text.npos ? second : second - first - 1);
    if (second != text.npos) out.variant = text.substr(second + 1);
  }
  if (!out.os.empty() && !out.architecture.empty()) return out;
  return fail(Errc::kInvalid, "platform \"" + std::string(text) + "\" is not OS/ARCHITECTURE");
}

bool is_index(std::string_view type) {
  return type == kOciIndex || type == "application/vnd.docker.distribution.manifest.list.v2+json";
}

bool is_manifest(std::string_view type) {
  return type == kOciManifest || type == "application/vnd.docker.distribution.manifest.v2+json";
}

bool is_tar_layer(std::string_view type) {
  return type.starts_with("application/vnd.oci.image.layer.") ||
         type.starts_with("application/vnd.docker.image.rootfs.");
}

bool is_wasm_layer(std::string_view type, const std::vector<std::string>& more) {
  const std::string_view plain = without_packing(type);
  if (plain == kWasmLayer || plain.ends_with("+wasm")) return true;
  return std::ranges::find(more, type) != more.end() ||
         std::ranges::find(more, plain) != more.end();
}

Packing packing_of(std::string_view type) {
  if (type.ends_with("+gzip") || type.ends_with(".gzip")) return Packing::kGzip;
  return type.ends_with("+zstd") ? Packing::kZstd : Packing::kNone;
}

bool is_digest(std::string_view text) {
  if (!text.starts_with("sha256:") || text.size() != 7 + 64) return false;
  return text.substr(7).find_first_not_of("0123456789abcdef") == text.npos;
}

std::string digest_text(std::string_view bytes) {
  return "sha256:" + wasm::to_hex(wasm::sha256(bytes.data(), bytes.size()));
}

Result<std::vector<Descriptor>> parse_index(std::string_view text) {
  TRY_ASSIGN(const Json json, parse(text, "the index"));
  return descriptors_of(json, "manifests");
}

Result<Manifest> parse_manifest(std::string_view text) {
  TRY_ASSIGN(const Json json, parse(text, "the manifest"));
  Manifest out;
  out.media_type = text_of(json, "mediaType");
  const Json* config = find(json, "config");
  if (config == nullptr) return fail(Errc::kInvalid, "the manifest has no config");
  TRY_ASSIGN(out.config, descriptor_of(*config, "config"));
  TRY_ASSIGN(out.layers, descriptors_of(json, "layers"));
  return out;
}

Result<Config> parse_config(std::string_view text) {
  TRY_ASSIGN(const Json json, parse(text, "the config"));
  Config out;
  out.platform = platform_of(json);
  if (const Json* run = find(json, "config"); run != nullptr && run->is_object()) {
    out.entrypoint = texts_of(*run, "Entrypoint");
    out.cmd = texts_of(*run, "Cmd");
    out.env = texts_of(*run, "Env");
  }
  if (const Json* rootfs = find(json, "rootfs"); rootfs != nullptr && rootfs->is_object()) {
    out.diff_ids = texts_of(*rootfs, "diff_ids");
  }
  out.layer_digests = texts_of(json, "layerDigests");
  return out;
}

}  // namespace amphora::image
