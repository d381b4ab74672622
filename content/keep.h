// SPDX-License-Identifier: Apache-2.0
// Compiled artifacts in containerd's content store: written under a lease of their own, held by a label
// of the layer that they were compiled from, so that they go when the image goes. Whether one may be
// loaded is not decided here: the cache (wasm/cache) knows the digest of what it has written.
#pragma once

#include <string>

#include "content/api.h"
#include "executor/base/fd.h"

namespace amphora::content {

class Keeper {
 public:
  explicit Keeper(Api& api) : api_(api) {}
  /// Where the store's files are, which takes rights that are given up before an image is looked at.
  void look_for_store();
  /// Of the layer at hand.
  void set_layer(image::Descriptor layer) { layer_ = std::move(layer); }
  /// The artifact with this digest ("sha256:..."), if this namespace has it: the store's own file on a
  /// read-only mount, so that all who map it share its pages, else a copy in memory.
  Result<UniqueFd> find(const std::string& digest);
  Result<UniqueFd> keep(const std::string& key, const std::string& digest, int artifact);

 private:
  UniqueFd open_file(const std::string& digest);
  Result<void> hold(const std::string& digest);
  Result<void> write(const std::string& key, const std::string& digest, int artifact);

  Api& api_;
  image::Descriptor layer_;
  UniqueFd blobs_;  ///< the store's directory of sha256 blobs; -1: not to be had
};

}  // namespace amphora::content
