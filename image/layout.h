// SPDX-License-Identifier: Apache-2.0
// Reading an image's tar back: its documents as values, every blob's digest and size as they really
// are, and what is wrong. Whoever wrote it, nothing of it is believed. `inspect` shows it, `verify` judges it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "image/manifest.h"

namespace amphora::image {

/// One manifest of an image.
struct Found {
  std::string name;      ///< of the image, from index.json's annotations; may be empty
  Descriptor target;     ///< what the name stands for: the manifest, or an index
  Descriptor described;  ///< the manifest
  Manifest manifest;
  Config config;
};

struct Layout {
  struct Blob {
    uint64_t size = 0;
    std::string digest;  ///< of the bytes that are there
    std::string text;    ///< up to kMaxDocument bytes: all of them
  };
  std::string path;
  std::map<std::string, Blob> blobs;  ///< by the digest that their name says
  std::vector<Found> images;
  std::vector<std::string> problems;  ///< a line each; empty: a good image
};

/// The error is one of reading the file at all; what is wrong with its content is in `problems`.
Result<Layout> read_layout(const std::string& path);

/// Unpacks ordinary layers and compares them with the config's diff_ids, and looks at the first bytes
/// of wasm layers; adds to `problems`.
Result<void> check_layers(Layout& layout);

/// "wasm layers", "wasm artifact", "wasm module in a layer": what docs/images.md calls it.
std::string kind_of(const Found& image);

}  // namespace amphora::image
