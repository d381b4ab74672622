// SPDX-License-Identifier: Apache-2.0
// The client of amphora-content: the bytes of an image's wasm layer, and a place in containerd's content
// store for what is compiled from it. A Session is one helper process, for one container or one image,
// and lives as long as the verdict that it made.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "detect/detect.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "wasm/zygote.h"

namespace amphora::wasm {

/// Of a container that containerd made from no image: the image whose module it runs.
inline constexpr std::string_view kImageAnnotation = "amphora.dev/image";

/// Which containerd, and which of its namespaces.
struct Containerd {
  std::string address, name_space;
};

/// What is looked for.
struct ImageQuery {
  std::string container;         ///< whose image; empty: `image`
  std::string image;             ///< also for a container that was made from none
  std::string entrypoint;        ///< args[0]
  std::string engine = {};       ///< that will run it, if somebody chose
  std::string layer_types = {};  ///< that it declares; blanks between
};

class ContentSession : public detect::ArtifactStore,
                       public std::enable_shared_from_this<ContentSession> {
 public:
  /// `program` is amphora-content's and must outlive the session.
  static Result<std::shared_ptr<ContentSession>> start(HostProgram& program,
                                                       const Containerd& containerd);
  ~ContentSession() override;
  ContentSession(const ContentSession&) = delete;
  ContentSession& operator=(const ContentSession&) = delete;

  struct Found {
    UniqueFd head;  ///< a sealed memfd with the module, or its first bytes; -1: there is none
    std::string why_none;
    std::string digest, image;               ///< of the layer; name of the image
    std::vector<detect::Library> libraries;  ///< the image's other wasm layers
  };
  Result<Found> open(const ImageQuery& query);

  std::string name() const override { return name_; }
  std::string module_digest() const override { return module_digest_; }
  Result<UniqueFd> read_module() override;
  Result<UniqueFd> read_library(size_t index) override;
  UniqueFd find(const std::string& digest) override;
  Result<UniqueFd> keep(const std::string& key, const std::string& digest, int artifact) override;

 private:
  ContentSession(HostProgram& program, Process process, UniqueFd socket, std::string name)
      : program_(program),
        process_(std::move(process)),
        socket_(std::move(socket)),
        name_(std::move(name)) {}
  Result<Received> ask(const std::string& message, int fd);

  HostProgram& program_;
  Process process_;
  UniqueFd socket_;
  const std::string name_;
  std::string module_digest_;  ///< of a layer that is the module as it is
  std::mutex mutex_;           ///< one question at a time
};

}  // namespace amphora::wasm
