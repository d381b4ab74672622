// SPDX-License-Identifier: Apache-2.0
// See layout.h.
#include "image/layout.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "image/archive.h"
#include "image/component.h"
#include "image/manifest.h"
#include "wasm/sha256.h"

namespace amphora::image {
namespace {

constexpr std::string_view kBlobs = "blobs/sha256/";
constexpr unsigned kMaxNested = 4;  // indices in indices

/// Digest, size and, if it is small, the bytes.
Result<Layout::Blob> take(const ReadMember& read) {
  Layout::Blob blob;
  wasm::Sha256 hash;
  TRY(read([&](std::string_view piece) -> Result<void> {
    hash.update(piece.data(), piece.size());
    blob.size += piece.size();
    if (blob.size <= kMaxDocument) blob.text.append(piece);
    return {};
  }));
  if (blob.size > kMaxDocument) blob.text.clear();
  blob.digest = "sha256:" + wasm::to_hex(hash.finish());
  return blob;
}

/// Walks from index.json to the configs and notes what does not fit.
class Walk {
 public:
  explicit Walk(Layout& layout) : layout_(layout) {}

  void begin(const std::string& index) {
    auto descriptors = parse_index(index);
    if (!descriptors) return bad("index.json: " + descriptors.error().what());
    if (descriptors->empty()) bad("index.json names no image");
    for (const Descriptor& one : *descriptors) {
      const auto name = one.annotations.find(std::string(kImageName));
      const auto ref = one.annotations.find(std::string(kRefName));
      if (name != one.annotations.end()) {
        visit(one, one, name->second, 0);
      } else {
        visit(one, one, ref == one.annotations.end() ? "" : ref->second, 0);
      }
    }
    for (const auto& [digest, blob] : layout_.blobs) {
      if (!used_.contains(digest)) bad(digest + ": nothing refers to it");
    }
  }

 private:
  void bad(std::string text) { layout_.problems.push_back(std::move(text)); }

  /// The blob that a descriptor means, if it is there and is what the descriptor says.
  const Layout::Blob* find(const Descriptor& one, const std::string& what) {
    used_.insert(one.digest);
    const auto at = layout_.blobs.find(one.digest);
    if (at == layout_.blobs.end()) {
      bad(what + " " + one.digest + " is missing");
      return nullptr;
    }
    if (at->second.size != one.size) {
      bad(what + " " + one.digest + " has " + std::to_string(at->second.size) + " bytes, not " +
          std::to_string(one.size));
      return nullptr;
    }
    return at->second.digest == one.digest ? &at->second : nullptr;
  }

  void visit(const Descriptor& target, const Descriptor& one, const std::string& name,
             unsigned depth) {
    const Layout::Blob* blob = find(one, is_index(one.media_type) ? "index" : "manifest");
    if (blob == nullptr) return;
    if (is_index(one.media_type) && depth < kMaxNested) {
      auto inner = parse_index(blob->text);
      if (!inner) return bad(one.digest + ": " + inner.error().what());
      for (const Descriptor& next : *inner) visit(target, next, name, depth + 1);
      return;
    }
    if (!is_manifest(one.media_type)) {
      return bad(one.digest + ": media type \"" + one.media_type + "\" is no manifest's");
    }
    visit_manifest(target, one, name, blob->text);
  }

  void visit_manifest(const Descriptor& target, const Descriptor& one, const std::string& name,
                      const std::string& text) {
    auto manifest = parse_manifest(text);
    if (!manifest) return bad(one.digest + ": " + manifest.error().what());
    Found found{.name = name,
                .target = target,
                .described = one,
                .manifest = std::move(*manifest),
                .config = {}};
    if (const Layout::Blob* blob = find(found.manifest.config, "config")) {
      auto config = parse_config(blob->text);
      if (!config) return bad(found.manifest.config.digest + ": " + config.error().what());
      found.config = std::move(*config);
    }
    for (const Descriptor& layer : found.manifest.layers) find(layer, "layer");
    check_lists(found);
    layout_.images.push_back(std::move(found));
  }

  void check_lists(const Found& found) {
    if (found.manifest.config.media_type == kWasmConfig) {
      std::vector<std::string> digests;
      for (const Descriptor& layer : found.manifest.layers) digests.push_back(layer.digest);
      if (digests != found.config.layer_digests) {
        bad(found.manifest.config.digest + ": layerDigests are not the manifest's layers");
      }
      return;
    }
    const auto ordinary = std::ranges::count_if(
        found.manifest.layers, [](const Descriptor& one) { return is_tar_layer(one.media_type); });
    if (static_cast<size_t>(ordinary) != found.config.diff_ids.size()) {
      bad(found.manifest.config.digest + ": " + std::to_string(found.config.diff_ids.size()) +
          " diff_ids for " + std::to_string(ordinary) + " ordinary layers");
    }
    check_titles(found);
  }

  /// Of several wasm layers the title tells which one an entrypoint means, and is a library's name.
  void check_titles(const Found& found) {
    std::set<std::string> seen;
    const auto wasm = std::ranges::count_if(
        found.manifest.layers, [](const Descriptor& one) { return is_wasm_layer(one.media_type); });
    if (wasm < 2) return;
    for (const Descriptor& layer : found.manifest.layers) {
      if (!is_wasm_layer(layer.media_type)) continue;
      const auto title = layer.annotations.find(std::string(kTitle));
      if (title == layer.annotations.end() || title->second.empty()) {
        bad(layer.digest + ": one of several wasm layers, and without a title nobody can name it");
      } else if (!seen.insert(title->second).second) {
        bad(layer.digest + ": another wasm layer is titled \"" + title->second + "\", too");
      }
    }
  }

  Layout& layout_;
  std::set<std::string> used_;
};

/// What a layer turned out to be, to be compared once its bytes were seen.
struct Expected {
  bool tar = false;
  Packing packing = Packing::kNone;
  std::string diff_id;
};

std::map<std::string, Expected> expected_of(const Layout& layout) {
  std::map<std::string, Expected> out;
  for (const Found& image : layout.images) {
    size_t next = 0;
    for (const Descriptor& layer : image.manifest.layers) {
      Expected one{is_tar_layer(layer.media_type), packing_of(layer.media_type), ""};
      if (one.tar && next < image.config.diff_ids.size())
        one.diff_id = image.config.diff_ids[next++];
      if (one.tar || is_wasm_layer(layer.media_type)) out.emplace(layer.digest, one);
    }
  }
  return out;
}

void check_layer(const std::string& digest, const Expected& expected, const std::string& bytes,
                 std::vector<std::string>& problems) {
  wasm::Sha256 hash;
  std::string head;
  const auto read =
      decompress(bytes, expected.packing, [&](std::string_view piece) -> Result<void> {
        hash.update(piece.data(), piece.size());
        if (head.size() < 8) head.append(piece.substr(0, 8 - head.size()));
        return {};
      });
  if (!read) {
    problems.push_back(digest + ": " + read.error().what());
  } else if (!expected.tar && binary_of(head) == Binary::kOther) {
    problems.push_back(digest + ": a wasm layer that is neither module nor component");
  } else if (expected.tar && "sha256:" + wasm::to_hex(hash.finish()) != expected.diff_id) {
    problems.push_back(digest + ": unpacked it is not the config's " + expected.diff_id);
  }
}

}  // namespace

Result<Layout> read_layout(const std::string& path) {
  Layout layout;
  layout.path = path;
  std::string version, index;
  TRY(read_tar(
      path, [&](const std::string& name, uint64_t, const ReadMember& read) -> Result<void> {
        if (name != "oci-layout" && name != "index.json" && !name.starts_with(kBlobs)) return {};
        TRY_ASSIGN(Layout::Blob blob, take(read));
        if (name == "oci-layout") {
          version = std::move(blob.text);
        } else if (name == "index.json") {
          index = std::move(blob.text);
        } else {
          const std::string named = "sha256:" + name.substr(kBlobs.size());
          if (named != blob.digest) {
            layout.problems.push_back(named + ": its bytes have the digest " + blob.digest);
          }
          layout.blobs[named] = std::move(blob);
        }
        return {};
      }));
  if (version.find("\"imageLayoutVersion\"") == version.npos) {
    layout.problems.emplace_back("no oci-layout with an imageLayoutVersion");
  }
  if (index.empty()) {
    layout.problems.emplace_back("no index.json");
  } else {
    Walk(layout).begin(index);
  }
  return layout;
}

Result<void> check_layers(Layout& layout) {
  const auto expected = expected_of(layout);
  return read_tar(layout.path,
                  [&](const std::string& name, uint64_t, const ReadMember& read) -> Result<void> {
                    if (!name.starts_with(kBlobs)) return {};
                    const std::string digest = "sha256:" + name.substr(kBlobs.size());
                    const auto one = expected.find(digest);
                    if (one == expected.end()) return {};
                    std::string bytes;
                    TRY(read([&](std::string_view piece) -> Result<void> {
                      bytes.append(piece);
                      return {};
                    }));
                    check_layer(digest, one->second, bytes, layout.problems);
                    return {};
                  });
}

std::string kind_of(const Found& image) {
  if (image.manifest.config.media_type == kWasmConfig) return "wasm artifact";
  const auto wasm = std::ranges::any_of(
      image.manifest.layers, [](const Descriptor& one) { return is_wasm_layer(one.media_type); });
  return wasm ? "wasm layers" : "ordinary layers";
}

}  // namespace amphora::image
