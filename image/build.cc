// SPDX-License-Identifier: Apache-2.0
// See build.h. Documents are written with their members in a fixed order, times come from the request,
// entries of tars are sorted: nothing of the machine gets into an image.
#include "image/build.h"

#include <fcntl.h>
#include <time.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "image/archive.h"
#include "image/component.h"
#include "image/manifest.h"
#include "image/sources.h"

namespace amphora::image {
namespace {

using Json = nlohmann::ordered_json;

#if defined(__aarch64__)
constexpr std::string_view kHostArchitecture = "arm64";
#else
constexpr std::string_view kHostArchitecture = "amd64";
#endif
constexpr std::string_view kPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of an image's config: two images with the same words and other modules must not share a config,
/// as CRI takes its digest for the image's id.
constexpr const char* kLayersLabel = "dev.amphora.layers";

struct Blobs {
  std::map<std::string, std::string> by_digest;
  Json describe(std::string_view media_type, std::string bytes) {
    const std::string digest = digest_text(bytes);
    Json out{{"mediaType", media_type}, {"digest", digest}, {"size", bytes.size()}};
    by_digest.emplace(digest, std::move(bytes));
    return out;
  }
};

/// All that the documents are made of.
struct Draft {
  const BuildRequest& request;
  std::vector<Source> sources;
  std::vector<Platform> platforms;
  int64_t seconds = 0;
  Blobs blobs;
  Json layers = Json::array(), diff_ids = Json::array();
};

Result<int64_t> time_of(const BuildRequest& request) {
  if (!request.created.empty()) {
    struct tm parts{};
    const char* rest = ::strptime(request.created.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (rest != nullptr && *rest == '\0') return static_cast<int64_t>(::timegm(&parts));
    return fail(Errc::kInvalid,
                "--created \"" + request.created + "\" is not like 2026-01-31T00:00:00Z");
  }
  const char* epoch = std::getenv("SOURCE_DATE_EPOCH");
  if (epoch == nullptr || *epoch == '\0') return 0;
  int64_t seconds = 0;
  const char* const end = epoch + std::strlen(epoch);
  const auto [at, error] = std::from_chars(epoch, end, seconds);
  if (error == std::errc() && at == end && seconds >= 0) return seconds;
  return fail(Errc::kInvalid, "SOURCE_DATE_EPOCH is no number of seconds");
}

std::string rfc3339(int64_t seconds) {
  struct tm parts{};
  const time_t when = seconds;
  char text[40] = "";
  if (::gmtime_r(&when, &parts) != nullptr) {
    ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  }
  return text;
}

Result<std::map<std::string, std::string>> pairs(const std::vector<std::string>& words,
                                                 const char* option) {
  std::map<std::string, std::string> out;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == word.npos || equals == 0) {
      return fail(Errc::kInvalid, std::string(option) + " \"" + word + "\" is not NAME=VALUE");
    }
    out[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return out;
}

Result<Packing> packing_named(const std::string& name) {
  if (name == "none") return Packing::kNone;
  if (name == "gzip") return Packing::kGzip;
  if (name == "zstd") return Packing::kZstd;
  return fail(Errc::kInvalid, "--compress \"" + name + "\": none, gzip or zstd");
}

const char* suffix_of(Packing packing) {
  switch (packing) {
    case Packing::kGzip:
      return "+gzip";
    case Packing::kZstd:
      return "+zstd";
    case Packing::kNone:
      break;
  }
  return "";
}

/// Which WASI a module wants, by what it is; files in ordinary layers run wherever there is a
/// shim, so that their image is the host's, which every containerd and Docker takes.
Platform default_platform(const Draft& draft) {
  if (draft.request.tar || draft.sources.empty())
    return {"linux", std::string(kHostArchitecture), ""};
  const bool component = draft.sources.front().binary == Binary::kComponent;
  return {component ? "wasip2" : "wasip1", "wasm", ""};
}

Result<void> add_tar_layer(Draft& draft) {
  const std::vector<Source> none;
  TRY_ASSIGN(const auto entries,
             tar_entries(draft.request, draft.request.tar ? draft.sources : none));
  if (entries.empty()) return {};
  TRY_ASSIGN(const Packing packing, packing_named(draft.request.compress));
  TRY_ASSIGN(const std::string tar, write_tar(entries, draft.seconds));
  draft.diff_ids.push_back(digest_text(tar));
  TRY_ASSIGN(std::string packed, compress(tar, packing));
  draft.layers.push_back(
      draft.blobs.describe(std::string(kOciLayer) + suffix_of(packing), std::move(packed)));
  return {};
}

Result<void> add_wasm_layers(Draft& draft) {
  if (draft.request.tar) return {};
  for (const Source& source : draft.sources) {
    std::string type = source.media_type;
    if (type.empty()) type = draft.request.artifact ? kWasmLayer : kComponentLayer;
    TRY_ASSIGN(std::string bytes, compress(source.bytes, packing_of(type)));
    if (is_tar_layer(type)) {
      draft.diff_ids.push_back(digest_text(source.bytes));
      draft.layers.push_back(draft.blobs.describe(type, std::move(bytes)));
      continue;
    }
    Json layer = draft.blobs.describe(type, std::move(bytes));
    layer["annotations"] = {{kTitle, source.file_name}};
    draft.layers.push_back(std::move(layer));
  }
  return {};
}

std::string all_digests(const Json& layers) {
  std::string out;
  for (const Json& layer : layers) out += layer["digest"].get<std::string>() + "\n";
  return out;
}

std::vector<std::string> entrypoint_of(const Draft& draft) {
  if (!draft.request.entrypoint.empty() || !draft.request.cmd.empty()) {
    return draft.request.entrypoint;
  }
  for (const Source& source : draft.sources) {
    if (source.binary != Binary::kOther) return {"/" + source.file_name};
  }
  return {};
}

Result<Json> image_config(const Draft& draft, const Platform& platform) {
  const BuildRequest& request = draft.request;
  Json run{{"Env", Json::array({kPath})}};
  for (const std::string& word : request.env) {
    if (word.find('=') == word.npos || word[0] == '=') {
      return fail(Errc::kInvalid, "--env \"" + word + "\" is not NAME=VALUE");
    }
    run["Env"].push_back(word);
  }
  if (const auto entrypoint = entrypoint_of(draft); !entrypoint.empty()) {
    run["Entrypoint"] = entrypoint;
  }
  if (!request.cmd.empty()) run["Cmd"] = request.cmd;
  if (!request.user.empty()) run["User"] = request.user;
  if (!request.workdir.empty()) run["WorkingDir"] = request.workdir;
  TRY_ASSIGN(auto labels, pairs(request.labels, "--label"));
  labels[kLayersLabel] = digest_text(all_digests(draft.layers)).substr(7);
  run["Labels"] = labels;
  Json out{{"created", rfc3339(draft.seconds)}};
  if (!request.author.empty()) out["author"] = request.author;
  out["architecture"] = platform.architecture;
  out["os"] = platform.os;
  if (!platform.variant.empty()) out["variant"] = platform.variant;
  out["config"] = std::move(run);
  out["rootfs"] = {{"type", "layers"}, {"diff_ids", draft.diff_ids}};
  return out;
}

/// The CNCF's Wasm OCI artifact, version 0.
Json artifact_config(const Draft& draft, const Platform& platform) {
  Json out{{"created", rfc3339(draft.seconds)}};
  if (!draft.request.author.empty()) out["author"] = draft.request.author;
  out["architecture"] = platform.architecture;
  out["os"] = platform.os;
  out["layerDigests"] = Json::array();
  for (const Json& layer : draft.layers) out["layerDigests"].push_back(layer["digest"]);
  if (const auto names = component_names(draft.sources.front().bytes)) {
    out["component"] = {
        {"exports", names->exports}, {"imports", names->imports}, {"target", nullptr}};
  }
  return out;
}

Result<void> check(const BuildRequest& request) {
  const auto wrong = [](const char* text) { return fail(Errc::kInvalid, text); };
  if (request.name.empty() || request.repo.empty() || request.out.empty()) {
    return wrong("--repo, --name and --out-path are needed");
  }
  if (!request.modules.empty() && !request.components.empty()) {
    return wrong("--module and --components exclude each other");
  }
  const size_t sources = request.modules.size() + request.layers.size();
  if (sources == 0 && request.components.empty() && request.files.empty()) {
    return wrong("one of --module, --layer, --components and --file is needed");
  }
  if (request.tar && (request.artifact || !request.layers.empty())) {
    return wrong("--tar goes with --module and --components only");
  }
  if (!request.artifact) return {};
  const bool words = !request.env.empty() || !request.labels.empty() || !request.cmd.empty() ||
                     !request.entrypoint.empty() || !request.files.empty() ||
                     !request.user.empty() || !request.workdir.empty();
  if (words) {
    return wrong(
        "an artifact's config has no words for a container: no --env, --label, --entrypoint, "
        "--cmd, --file, --user and --workdir with --as-artifact");
  }
  return {};
}

Result<Json> manifest_for(Draft& draft, const Platform& platform) {
  Json config;
  if (draft.request.artifact) {
    config = artifact_config(draft, platform);
  } else {
    TRY_ASSIGN(config, image_config(draft, platform));
  }
  Json out{{"schemaVersion", 2}, {"mediaType", kOciManifest}};
  if (draft.request.artifact) out["artifactType"] = kWasmConfig;
  out["config"] =
      draft.blobs.describe(draft.request.artifact ? kWasmConfig : kOciConfig, config.dump());
  out["layers"] = draft.layers;
  TRY_ASSIGN(const auto annotations, pairs(draft.request.annotations, "--annotation"));
  if (!annotations.empty()) out["annotations"] = annotations;
  return out;
}

Json platform_json(const Platform& platform) {
  Json out{{"architecture", platform.architecture}, {"os", platform.os}};
  if (!platform.variant.empty()) out["variant"] = platform.variant;
  return out;
}

/// For tools that read Docker's own list; of an index or an artifact it could say nothing.
std::string docker_list(const Draft& draft, const Json& manifest, const std::string& name) {
  const auto path = [](const Json& descriptor) {
    return "blobs/sha256/" + descriptor["digest"].get<std::string>().substr(7);
  };
  Json one{{"Config", path(manifest["config"])}, {"RepoTags", {name}}, {"Layers", Json::array()}};
  for (const Json& layer : draft.layers) one["Layers"].push_back(path(layer));
  return Json::array({one}).dump();
}

Result<void> write(const Draft& draft, const Json& index, const std::string& docker) {
  std::vector<TarEntry> entries;
  const auto add = [&](std::string path, std::string body) {
    entries.push_back({.path = std::move(path),
                       .kind = TarEntry::Kind::kFile,
                       .mode = 0644,
                       .body = std::move(body)});
  };
  add("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  add("index.json", index.dump());
  if (!docker.empty()) add("manifest.json", docker);
  for (const auto& [digest, bytes] : draft.blobs.by_digest) {
    add("blobs/sha256/" + digest.substr(7), bytes);
  }
  TRY_ASSIGN(const std::string tar, write_tar(entries, draft.seconds));
  if (draft.request.out == "-") return write_all(1, tar);
  TRY_ASSIGN(const UniqueFd file,
             open_at(AT_FDCWD, draft.request.out, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return write_all(file.get(), tar);
}

}  // namespace

Result<std::string> build(const BuildRequest& request) {
  TRY(check(request));
  Draft draft{.request = request, .sources = {}, .platforms = {}, .blobs = {}};
  TRY_ASSIGN(draft.seconds, time_of(request));
  TRY_ASSIGN(draft.sources, read_sources(request));
  if (request.artifact && draft.sources.size() != 1) {
    return fail(Errc::kInvalid, "an artifact has one module or component, and only that");
  }
  std::set<std::string> names;
  for (const Source& source : draft.sources) {
    const bool has_title = source.binary != Binary::kOther && !is_tar_layer(source.media_type);
    if (has_title && !names.insert(source.file_name).second) {
      return fail(Errc::kInvalid, "two modules are called " + source.file_name +
                                      ", which is what tells them apart in the image");
    }
  }
  for (const std::string& text : request.platforms) {
    TRY_ASSIGN(Platform platform, parse_platform(text));
    draft.platforms.push_back(std::move(platform));
  }
  if (draft.platforms.empty()) draft.platforms.push_back(default_platform(draft));
  TRY(add_tar_layer(draft));
  TRY(add_wasm_layers(draft));

  const std::string name = request.repo + "/" + request.name + ":" + request.tag;
  const bool with_index = request.index || draft.platforms.size() > 1;
  Json manifests = Json::array();
  std::string docker;
  for (const Platform& platform : draft.platforms) {
    TRY_ASSIGN(const Json manifest, manifest_for(draft, platform));
    if (!with_index && !request.artifact) docker = docker_list(draft, manifest, name);
    Json descriptor = draft.blobs.describe(kOciManifest, manifest.dump());
    descriptor["platform"] = platform_json(platform);
    manifests.push_back(std::move(descriptor));
  }
  const auto index_of = [](Json list) {
    return Json{{"schemaVersion", 2}, {"mediaType", kOciIndex}, {"manifests", std::move(list)}};
  };
  Json target = with_index ? draft.blobs.describe(kOciIndex, index_of(manifests).dump())
                           : std::move(manifests[0]);
  // Of the one that is named nobody is to choose: importers skip what is said to be for others.
  target.erase("platform");
  std::string digest = target["digest"].get<std::string>();
  target["annotations"] = {{kImageName, name}, {kRefName, request.tag}};
  TRY(write(draft, index_of(Json::array({std::move(target)})), docker));
  return digest;
}

}  // namespace amphora::image
