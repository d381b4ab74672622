// SPDX-License-Identifier: Apache-2.0
// See libraries.h.
#include "detect/libraries.h"

#include <algorithm>
#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "detect/detect.h"
#include "detect/entrypoint.h"
#include "detect/verdict.h"
#include "detect/view.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::detect {
namespace {

constexpr size_t kMaxLibraries = 64;  // as the compile process takes (wasm/compile_protocol.h)

std::string_view trim(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

bool is_absolute_and_printable(std::string_view path) {
  return path.starts_with('/') && !path.ends_with('/') && std::ranges::none_of(path, [](char c) {
           return static_cast<unsigned char>(c) < 32 || c == 127;
         });
}

Result<Library> find_library(View& view, const oci::Spec& spec, const oci::Process& process,
                             std::string_view path) {
  TRY_ASSIGN(auto found, search(view, spec, process, path));
  if (found.files.empty()) return fail(Errc::kNotFound, found.why_none);
  TRY_ASSIGN(UniqueFd file, open_for_reading(found.files.front()));
  return Library{std::string(path.substr(path.find_last_of('/') + 1)), {}, std::move(file)};
}

}  // namespace

Result<std::vector<Library>> find_libraries(View& view, const oci::Spec& spec,
                                            const oci::Process& process) {
  std::vector<Library> out;
  const auto given = spec.annotations.find(std::string(kLinkAnnotation));
  if (given == spec.annotations.end()) return out;
  std::string_view rest = given->second;
  for (bool more = true; more;) {
    const size_t comma = rest.find(',');
    const std::string_view path = trim(rest.substr(0, comma));
    more = comma != rest.npos;
    if (more) rest.remove_prefix(comma + 1);
    if (!is_absolute_and_printable(path) || out.size() == kMaxLibraries) {
      return fail(Errc::kInvalid,
                  fmt::format("annotations[\"{}\"]: \"{}\" is not /PATH, /PATH, ... (at most {})",
                              kLinkAnnotation, given->second, kMaxLibraries));
    }
    auto library = find_library(view, spec, process, path);
    if (!library) {
      return std::unexpected(
          std::move(library).error().context(fmt::format("annotations[\"{}\"]", kLinkAnnotation)));
    }
    out.push_back(std::move(*library));
  }
  return out;
}

}  // namespace amphora::detect
