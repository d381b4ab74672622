// SPDX-License-Identifier: Apache-2.0
// See api.h.
#include "content/api.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "containerd.pb.h"
#include "content/grpc.h"
#include "executor/base/error.h"
#include "image/manifest.h"
#include "wasm/sha256.h"

namespace amphora::content {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr int kWrite = 1, kCommit = 2;  // of WriteAction

Error garbled(const char* method) {
  return Error(Errc::kInternal,
               std::string("containerd's answer to ") + method + " cannot be read");
}

}  // namespace

Result<Api> Api::connect(const std::string& address, const std::string& name_space) {
  TRY_ASSIGN(Grpc grpc, Grpc::connect(address));
  return Api(std::move(grpc), name_space);
}

template <class Reply>
Result<Reply> Api::ask(const char* method, const std::string& request, const std::string& lease) {
  Call call{method, {request}, {{"containerd-namespace", name_space_}}};
  if (!lease.empty()) call.headers["containerd-lease"] = lease;
  Reply reply;
  auto done = grpc_.call(call, [&](std::string_view message) -> Result<void> {
    if (reply.ParseFromArray(message.data(), static_cast<int>(message.size()))) return {};
    return std::unexpected(garbled(method));
  });
  if (done) return reply;
  return std::unexpected(std::move(done).error().context("containerd"));
}

Result<std::string> Api::image_of(const std::string& container) {
  proto::GetContainerRequest request;
  request.set_id(container);
  TRY_ASSIGN(const auto reply,
             ask<proto::GetContainerResponse>("/containerd.services.containers.v1.Containers/Get",
                                              request.SerializeAsString()));
  return reply.container().image();
}

Result<image::Descriptor> Api::target_of(const std::string& name) {
  proto::GetImageRequest request;
  request.set_name(name);
  TRY_ASSIGN(const auto reply,
             ask<proto::GetImageResponse>("/containerd.services.images.v1.Images/Get",
                                          request.SerializeAsString()));
  const auto& target = reply.image().target();
  image::Descriptor out;
  out.media_type = target.media_type();
  out.digest = target.digest();
  out.size = static_cast<uint64_t>(target.size());
  if (image::is_digest(out.digest)) return out;
  return fail(Errc::kUnsupported, "image " + name + " has the digest " + out.digest);
}

Result<Api::Info> Api::info(const std::string& digest) {
  proto::InfoRequest request;
  request.set_digest(digest);
  TRY_ASSIGN(const auto reply,
             ask<proto::InfoResponse>("/containerd.services.content.v1.Content/Info",
                                      request.SerializeAsString()));
  return Info{static_cast<uint64_t>(reply.info().size()),
              {reply.info().labels().begin(), reply.info().labels().end()}};
}

Result<void> Api::read(const std::string& digest,
                       const std::function<Result<void>(std::string_view)>& use) {
  static constexpr const char* kMethod = "/containerd.services.content.v1.Content/Read";
  proto::ReadContentRequest request;
  request.set_digest(digest);
  wasm::Sha256 hash;
  auto done =
      grpc_.call({kMethod, {request.SerializeAsString()}, {{"containerd-namespace", name_space_}}},
                 [&](std::string_view message) -> Result<void> {
                   proto::ReadContentResponse piece;
                   if (!piece.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
                     return std::unexpected(garbled(kMethod));
                   }
                   hash.update(piece.data().data(), piece.data().size());
                   return use(piece.data());
                 });
  if (!done) return std::unexpected(std::move(done).error().context("read " + digest));
  const std::string found = "sha256:" + wasm::to_hex(hash.finish());
  if (found == digest) return {};
  return fail(Errc::kInvalid,
              "blob " + digest + " was changed: its bytes have the digest " + found);
}

Result<std::string> Api::head(const std::string& digest, size_t size) {
  proto::ReadContentRequest request;
  request.set_digest(digest);
  request.set_size(static_cast<int64_t>(size));
  TRY_ASSIGN(const auto reply,
             ask<proto::ReadContentResponse>("/containerd.services.content.v1.Content/Read",
                                             request.SerializeAsString()));
  return reply.data();
}

Result<std::string> Api::document(const std::string& digest) {
  std::string out;
  TRY(read(digest, [&](std::string_view piece) -> Result<void> {
    if (out.size() + piece.size() > image::kMaxDocument) {
      return fail(Errc::kInvalid, digest + " is too large for a document of an image");
    }
    out.append(piece);
    return {};
  }));
  return out;
}

Result<void> Api::set_label(const std::string& digest, const std::string& key,
                            const std::string& value) {
  proto::UpdateRequest request;
  request.mutable_info()->set_digest(digest);
  (*request.mutable_info()->mutable_labels())[key] = value;
  request.mutable_update_mask()->add_paths("labels." + key);
  TRY(ask<proto::InfoResponse>("/containerd.services.content.v1.Content/Update",
                               request.SerializeAsString()));
  return {};
}

Result<void> Api::write(const NewBlob& blob) {
  Call call{"/containerd.services.content.v1.Content/Write",
            {},
            {{"containerd-namespace", name_space_}, {"containerd-lease", blob.lease}}};
  for (size_t at = 0; at < blob.bytes.size(); at += kPiece) {
    proto::WriteContentRequest request;
    request.set_action(kWrite);
    request.set_ref(blob.ref);
    request.set_total(static_cast<int64_t>(blob.bytes.size()));
    request.set_expected(blob.digest);
    request.set_offset(static_cast<int64_t>(at));
    request.set_data(std::string(blob.bytes.substr(at, kPiece)));
    call.requests.push_back(request.SerializeAsString());
  }
  proto::WriteContentRequest commit;
  commit.set_action(kCommit);
  commit.set_ref(blob.ref);
  commit.set_total(static_cast<int64_t>(blob.bytes.size()));
  commit.set_expected(blob.digest);
  commit.set_offset(static_cast<int64_t>(blob.bytes.size()));
  commit.mutable_labels()->insert(blob.labels.begin(), blob.labels.end());
  call.requests.push_back(commit.SerializeAsString());
  auto done = grpc_.call(call, [](std::string_view) -> Result<void> { return {}; });
  if (done || done.error().code() == Errc::kExists) return {};
  return std::unexpected(std::move(done).error().context("containerd: write " + blob.digest));
}

Result<void> Api::make_lease(const std::string& id, const std::string& expires) {
  proto::CreateLeaseRequest request;
  request.set_id(id);
  (*request.mutable_labels())["containerd.io/gc.expire"] = expires;
  TRY(ask<proto::Ignored>("/containerd.services.leases.v1.Leases/Create",
                          request.SerializeAsString()));
  return {};
}

Result<void> Api::end_lease(const std::string& id) {
  proto::DeleteLeaseRequest request;
  request.set_id(id);
  TRY(ask<proto::Ignored>("/containerd.services.leases.v1.Leases/Delete",
                          request.SerializeAsString()));
  return {};
}

Result<std::string> Api::content_root() {
  proto::PluginsRequest request;
  request.add_filters("type==io.containerd.content.v1");
  TRY_ASSIGN(const auto reply, ask<proto::PluginsResponse>(
                                   "/containerd.services.introspection.v1.Introspection/Plugins",
                                   request.SerializeAsString()));
  for (const auto& plugin : reply.plugins()) {
    const auto root = plugin.exports().find("root");
    if (root != plugin.exports().end()) return root->second;
  }
  return std::string();
}

}  // namespace amphora::content
