// SPDX-License-Identifier: Apache-2.0
// amphora-content ADDRESS NAMESPACE: answers one client's questions about images in containerd (wasm/content_protocol.h)
// on the socket it was given, until that is closed. Started for containers whose entrypoint is in none of their files.
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <exception>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <google/protobuf/stubs/logging.h>

#include "content/api.h"
#include "content/bytes.h"
#include "content/keep.h"
#include "content/resolve.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "image/manifest.h"
#include "wasm/content_protocol.h"

namespace amphora::content {
namespace {

using wasm::pack;

constexpr unsigned kNobody = 65534;

struct Answer {
  std::string text;
  UniqueFd fd;
};

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

/// What was found last.
struct Chosen {
  Layer layer;
  Keeper keeper;
};

Result<Answer> open_module(Api& api, Chosen& chosen, const std::vector<std::string>& words) {
  Layer& layer = chosen.layer;
  TRY_ASSIGN(layer, find_layer(api, {words[1], words[2], words[3], words_of(words[4])}));
  if (!layer.why_none.empty()) return Answer{pack({wasm::kNothing, layer.why_none}), UniqueFd()};
  auto bytes = head_of(api, layer.descriptor);
  if (!bytes) return std::unexpected(std::move(bytes).error().context("image " + layer.image));
  chosen.keeper.set_layer(layer.descriptor);
  const bool plain = image::packing_of(layer.descriptor.media_type) == image::Packing::kNone;
  std::string text = pack({wasm::kAnswered, layer.descriptor.digest,
                           plain ? wasm::kPlain : wasm::kPacked, layer.image});
  for (const image::Descriptor& other : layer.others) text += pack({name_of(other), other.digest});
  return Answer{std::move(text), std::move(*bytes)};
}

/// The layer that was chosen, or the other one with that index.
Result<UniqueFd> read_layer(Api& api, const Chosen& chosen, const std::vector<std::string>& words) {
  if (words.size() == 1) return module_of(api, chosen.layer.descriptor);
  size_t index = chosen.layer.others.size();
  std::from_chars(words[1].data(), words[1].data() + words[1].size(), index);
  if (index >= chosen.layer.others.size()) return fail(Errc::kInternal, "there is no such layer");
  const image::Descriptor& other = chosen.layer.others[index];
  auto module = module_of(api, other);
  if (!module) return std::unexpected(std::move(module).error().context("layer " + name_of(other)));
  return module;
}

Answer found(UniqueFd file) {
  return {pack({file ? wasm::kAnswered : wasm::kNothing}), std::move(file)};
}

Result<Answer> answer(Api& api, Chosen& chosen, const Received& request) {
  Keeper& keeper = chosen.keeper;
  const std::vector<std::string> words = wasm::unpack(request.data);
  if (words.size() == 5 && words[0] == wasm::kOpen) return open_module(api, chosen, words);
  const bool may_read = !chosen.layer.descriptor.digest.empty();
  if ((words.size() == 1 || words.size() == 2) && words[0] == wasm::kRead && may_read) {
    TRY_ASSIGN(UniqueFd module, read_layer(api, chosen, words));
    return found(std::move(module));
  }
  if (words.size() == 2 && words[0] == wasm::kFind) {
    TRY_ASSIGN(UniqueFd file, keeper.find("sha256:" + words[1]));
    return found(std::move(file));
  }
  if (words.size() == 3 && words[0] == wasm::kKeep && request.fds.size() == 1) {
    TRY_ASSIGN(UniqueFd file, keeper.keep(words[1], "sha256:" + words[2], request.fds[0].get()));
    return found(std::move(file));
  }
  return fail(Errc::kInternal, "amphora-content does not know such a question");
}

Answer failed(const Error& error) {
  const std::string number = std::to_string(static_cast<int>(error.code()));
  return {pack({wasm::kFailed, number, error.what()}), UniqueFd()};
}

/// Manifests, configs and compressed layers are their authors' texts: what reads them has nothing but its
/// connection and one directory. Where there is no such user (a user namespace) rights are few already.
void drop_rights() {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const bool dropped = ::geteuid() == 0 && ::setgroups(0, nullptr) == 0 &&
                       ::setresgid(kNobody, kNobody, kNobody) == 0 &&
                       ::setresuid(kNobody, kNobody, kNobody) == 0;
  static_cast<void>(dropped);
}

Result<void> serve(const std::string& address, const std::string& name_space) {
  auto api = Api::connect(address, name_space);
  std::optional<Chosen> chosen;
  if (api) {
    chosen.emplace(Layer{}, Keeper(*api));
    chosen->keeper.look_for_store();
  }
  drop_rights();
  for (;;) {
    TRY_ASSIGN(const Received request, receive_with_fds(wasm::kContentSocketFd));
    if (request.data.empty()) return {};
    Result<Answer> answered = api ? answer(*api, *chosen, request) : std::unexpected(api.error());
    const Answer reply = answered ? std::move(*answered) : failed(answered.error());
    const int fd = reply.fd.get();
    TRY(send_with_fds(wasm::kContentSocketFd, reply.text, std::span(&fd, fd >= 0 ? 1 : 0)));
  }
}

}  // namespace
}  // namespace amphora::content

int main(int argc, char* argv[]) {
  using amphora::write_all;
  ::signal(SIGPIPE, SIG_IGN);
  google::protobuf::SetLogHandler(nullptr);
  if (argc != 3) {
    static_cast<void>(
        write_all(2, "amphora-content is started by the shim and by amphora cache\n"));
    return 2;
  }
  try {  // the last door: nothing of ours throws, but libraries and the allocator may
    const auto served = amphora::content::serve(argv[1], argv[2]);
    if (served) return 0;
    static_cast<void>(write_all(2, "amphora-content: " + served.error().what() + "\n"));
  } catch (const std::exception& e) {
    static_cast<void>(write_all(2, std::string("amphora-content: ") + e.what() + "\n"));
  }
  return 1;
}
