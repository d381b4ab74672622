// SPDX-License-Identifier: Apache-2.0
// Making an image: from modules, components and files to an OCI layout in a tar. The same request
// makes the same bytes. docs/images.md has the kinds.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"

namespace amphora::image {

/// As the command line says it.
struct BuildRequest {
  std::string repo, name, tag = "latest", out;
  std::vector<std::string> modules;  ///< files
  std::vector<std::string> layers;   ///< MEDIATYPE=FILE
  std::string components;            ///< a directory: every .wasm in it
  bool artifact = false;             ///< the CNCF artifact
  bool tar = false;                  ///< modules as files of an ordinary layer
  std::vector<std::string> files;    ///< SOURCE:DESTINATION[:MODE], into an ordinary layer
  std::vector<std::string> env, labels, annotations, entrypoint, cmd, platforms;
  std::string user, workdir, author;
  std::string compress = "none";  ///< of the ordinary layer: none, gzip, zstd
  std::string created;            ///< RFC 3339; empty: SOURCE_DATE_EPOCH, else 1970
  bool index = false;             ///< the manifest stands behind an index even for one platform
};

/// Writes request.out. Returns the digest of what the image's name stands for.
Result<std::string> build(const BuildRequest& request);

}  // namespace amphora::image
