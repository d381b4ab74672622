// SPDX-License-Identifier: Apache-2.0
// From a container or an image's name to the one layer that its entrypoint means, and the others that may
// be linked to it. The rules are in docs/images.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "content/api.h"

namespace amphora::content {

struct Wanted {
  std::string container;                      ///< whose image is looked up; empty: `image` it is
  std::string image;                          ///< also for a container that was made from no image
  std::string entrypoint;                     ///< args[0]
  std::vector<std::string> layer_types = {};  ///< an engine's own
};

struct Layer {
  std::string image;  ///< its name
  image::Descriptor descriptor;
  std::vector<image::Descriptor> others;  ///< wasm layers, as the manifest has them
  std::string why_none;                   ///< not empty: there is no such layer, and this is why
};

Result<Layer> find_layer(Api& api, const Wanted& wanted);

/// What a layer is called: its title, else its digest.
std::string name_of(const image::Descriptor& layer);

/// Which of the wasm layers the entrypoint means, as an index; exposed for tests.
Result<size_t> choose_layer(const std::vector<image::Descriptor>& layers,
                            std::string_view entrypoint);

}  // namespace amphora::content
