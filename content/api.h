// SPDX-License-Identifier: Apache-2.0
// containerd's services as far as images need them, in one namespace, with values in place of messages.
// Blobs are believed for their digest alone. Not here: what an image is made of (image/), which of its
// layers is run (resolve).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "content/grpc.h"
#include "executor/base/error.h"
#include "image/manifest.h"

namespace amphora::content {

class Api {
 public:
  static Result<Api> connect(const std::string& address, const std::string& name_space);

  /// The name of the image that the container was made from; may be empty.
  Result<std::string> image_of(const std::string& container);
  Result<image::Descriptor> target_of(const std::string& image);

  struct Info {
    uint64_t size = 0;
    std::map<std::string, std::string> labels;
  };
  Result<Info> info(const std::string& digest);
  /// The blob piece by piece; kInvalid at its end when it was not the digest's.
  Result<void> read(const std::string& digest,
                    const std::function<Result<void>(std::string_view)>& use);
  /// Up to `size` bytes from its beginning, compared with nothing.
  Result<std::string> head(const std::string& digest, size_t size);
  /// A small blob.
  Result<std::string> document(const std::string& digest);
  Result<void> set_label(const std::string& digest, const std::string& key,
                         const std::string& value);
  /// Writes a blob under a lease; one that is there already is as good.
  struct NewBlob {
    std::string ref, digest, lease;
    std::string_view bytes;
    std::map<std::string, std::string> labels;
  };
  Result<void> write(const NewBlob& blob);
  Result<void> make_lease(const std::string& id, const std::string& expires);
  Result<void> end_lease(const std::string& id);
  /// The directory of the content store on disk; empty when it has none.
  Result<std::string> content_root();

 private:
  Api(Grpc grpc, std::string name_space)
      : grpc_(std::move(grpc)), name_space_(std::move(name_space)) {}
  template <class Reply>
  Result<Reply> ask(const char* method, const std::string& request, const std::string& lease = "");

  Grpc grpc_;
  std::string name_space_;
};

}  // namespace amphora::content
