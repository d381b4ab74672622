// SPDX-License-Identifier: Apache-2.0
// What the client (wasm/content) and `amphora-content` say to each other over a socket of whole
// messages: fields that end with a NUL, descriptors beside them. Both ends are built together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace amphora::wasm {

/// The helper's end.
inline constexpr int kContentSocketFd = 3;

/// Requests: the verb, then its fields. Answers begin with kAnswered, kNothing or kFailed.
///   open CONTAINER IMAGE ENTRYPOINT TYPES    one of the two names may be empty; TYPES: an engine's own
///     kAnswered DIGEST kPlain|kPacked IMAGE {TITLE DIGEST}... + the module's first bytes, or all of them;
///     kNothing WHY. kPlain: the layer is the module as it is. Behind it the image's other wasm layers
///   read [INDEX]                       all of it, or of another layer, compared with its digest
///     kAnswered + the module
///   find DIGEST                        of an artifact, 64 hexadecimal digits
///     kAnswered + the file; kNothing
///   keep KEY DIGEST + the artifact
///     kAnswered + the file; kNothing WHY
///   kFailed CLASS TEXT                 to any of them; CLASS is Errc's number
inline constexpr std::string_view kOpen = "open", kRead = "read", kFind = "find", kKeep = "keep";
inline constexpr std::string_view kPlain = "plain", kPacked = "packed";
inline constexpr std::string_view kAnswered = "answered", kNothing = "nothing", kFailed = "failed";

inline std::string pack(const std::vector<std::string_view>& fields) {
  std::string out;
  for (const std::string_view field : fields) out.append(field).push_back('\0');
  return out;
}

inline std::vector<std::string> unpack(std::string_view message) {
  std::vector<std::string> out;
  while (!message.empty()) {
    const size_t end = message.find('\0');
    out.emplace_back(message.substr(0, end));
    message.remove_prefix(end == message.npos ? message.size() : end + 1);
  }
  return out;
}

}  // namespace amphora::wasm
