// SPDX-License-Identifier: Apache-2.0
// What a build reads from its builder's disk: modules and their layer types, and files for an ordinary
// layer. In sorted order, so that the same tree gives the same layer.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "image/archive.h"
#include "image/build.h"
#include "image/component.h"

namespace amphora::image {

/// A file that becomes a layer, or an entry of one.
struct Source {
  std::string media_type;  ///< empty: what the kind of image has for modules
  std::string file_name;   ///< the last part of its path
  std::string bytes;
  Binary binary = Binary::kOther;
};

/// Modules, components and layers of the request, in the order in which it names them.
Result<std::vector<Source>> read_sources(const BuildRequest& request);

/// The entries of an ordinary layer: request.files, and `modules` at the root.
Result<std::vector<TarEntry>> tar_entries(const BuildRequest& request,
                                          const std::vector<Source>& modules);

}  // namespace amphora::image
