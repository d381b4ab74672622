// SPDX-License-Identifier: Apache-2.0
// See resolve.h.
#include "content/resolve.h"

#include <algorithm>
#include <cstddef>
#include <expected>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "content/api.h"
#include "executor/base/error.h"
#include "image/manifest.h"

namespace amphora::content {
namespace {

using image::Descriptor;

#if defined(__aarch64__)
constexpr std::string_view kHostArchitecture = "arm64";
#else
constexpr std::string_view kHostArchitecture = "amd64";
#endif
constexpr size_t kMaxLayers = 65;   // one and the libraries that the compile process takes
constexpr unsigned kMaxNested = 4;  // indices in indices

/// What the container may be of: the host's platform first, as containerd has chosen it unless it was
/// told another, then those of WebAssembly, in the order of the index.
std::vector<Descriptor> by_preference(std::vector<Descriptor> entries) {
  const auto rank = [](const Descriptor& one) {
    if (!one.platform) return 1;
    if (one.platform->os == "linux" && one.platform->architecture == kHostArchitecture) return 0;
    return one.platform->is_wasm() ? 1 : 2;
  };
  std::erase_if(entries, [&](const Descriptor& one) { return rank(one) == 2; });
  std::ranges::stable_sort(entries, {}, rank);
  return entries;
}

std::vector<Descriptor> wasm_layers(const image::Manifest& manifest,
                                    const std::vector<std::string>& more) {
  std::vector<Descriptor> out;
  std::ranges::copy_if(manifest.layers, std::back_inserter(out), [&](const Descriptor& layer) {
    return image::is_wasm_layer(layer.media_type, more);
  });
  return out;
}

/// The wasm layers of the first manifest that has some; what is not in the store is for others.
Result<std::vector<Descriptor>> layers_of(Api& api, const Descriptor& target,
                                          const std::vector<std::string>& more, unsigned depth) {
  auto text = api.document(target.digest);
  if (!text) {
    const bool absent = depth > 0 && text.error().code() == Errc::kNotFound;
    if (absent) return std::vector<Descriptor>();
    return std::unexpected(std::move(text).error());
  }
  if (!image::is_index(target.media_type)) {
    TRY_ASSIGN(const image::Manifest manifest, image::parse_manifest(*text));
    return wasm_layers(manifest, more);
  }
  if (depth == kMaxNested) return std::vector<Descriptor>();
  TRY_ASSIGN(auto entries, image::parse_index(*text));
  for (const Descriptor& entry : by_preference(std::move(entries))) {
    TRY_ASSIGN(auto layers, layers_of(api, entry, more, depth + 1));
    if (!layers.empty()) return layers;
  }
  return std::vector<Descriptor>();
}

std::string title_of(const Descriptor& layer) {
  const auto title = layer.annotations.find(std::string(image::kTitle));
  return title == layer.annotations.end() ? "" : title->second;
}

/// Titles become words of a command line, fields of a message and parts of errors.
bool is_good_title(std::string_view title) {
  constexpr size_t kMaxTitle = 255;
  return title.size() <= kMaxTitle && std::ranges::none_of(title, [](char c) {
           return static_cast<unsigned char>(c) < 32 || c == 127;
         });
}

/// "/x/app.wasm#run" is "app.wasm".
std::string_view file_name(std::string_view entrypoint) {
  entrypoint = entrypoint.substr(0, entrypoint.find('#'));
  const size_t slash = entrypoint.find_last_of('/');
  return slash == entrypoint.npos ? entrypoint : entrypoint.substr(slash + 1);
}

}  // namespace

std::string name_of(const Descriptor& layer) {
  std::string const title = title_of(layer);
  return title.empty() ? layer.digest : title;
}

Result<size_t> choose_layer(const std::vector<Descriptor>& layers, std::string_view entrypoint) {
  if (layers.size() == 1) return size_t{0};
  if (layers.size() > kMaxLayers) {
    return fail(Errc::kInvalid, "it has " + std::to_string(layers.size()) +
                                    " wasm layers; at most " + std::to_string(kMaxLayers) +
                                    " can be told apart");
  }
  std::string names;
  std::optional<size_t> chosen;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string title = title_of(layers[i]);
    if (!is_good_title(title)) {
      return fail(Errc::kInvalid, "the wasm layer " + layers[i].digest +
                                      " has a title that is no file name (255 printable bytes)");
    }
    names += (names.empty() ? "" : ", ") + name_of(layers[i]);
    if (title.empty() || title != file_name(entrypoint)) continue;
    if (chosen) return fail(Errc::kInvalid, "two of its wasm layers are titled \"" + title + "\"");
    chosen = i;
  }
  if (chosen) return *chosen;
  return fail(Errc::kInvalid, "it has " + std::to_string(layers.size()) + " wasm layers (" + names +
                                  "), and none of them is titled \"" +
                                  std::string(file_name(entrypoint)) + "\"");
}

Result<Layer> find_layer(Api& api, const Wanted& wanted) {
  Layer out;
  out.image = wanted.image;
  if (!wanted.container.empty()) {
    TRY_ASSIGN(const std::string name, api.image_of(wanted.container));
    // What containerd says is what policies have looked at; the other name is for who has none.
    if (!name.empty()) out.image = name;
  }
  if (out.image.empty()) {
    out.why_none = "the container was made from no image";
    return out;
  }
  const auto failed = [&](Error error) {
    return std::unexpected(std::move(error).context("image " + out.image));
  };
  auto target = api.target_of(out.image);
  if (!target) return failed(std::move(target).error());
  auto layers = layers_of(api, *target, wanted.layer_types, 0);
  if (!layers) return failed(std::move(layers).error());
  if (layers->empty()) {
    out.why_none = "image " + out.image + " has no wasm layer";
    return out;
  }
  auto chosen = choose_layer(*layers, wanted.entrypoint);
  if (!chosen) return failed(std::move(chosen).error());
  out.descriptor = std::move((*layers)[*chosen]);
  layers->erase(layers->begin() + static_cast<std::ptrdiff_t>(*chosen));
  out.others = std::move(*layers);
  return out;
}

}  // namespace amphora::content
