// SPDX-License-Identifier: Apache-2.0
// Lines of /etc/passwd. See passwd.h.
#include "executor/runtime/passwd.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace amphora::runtime {

std::string home_in(std::string_view passwd, uint32_t uid) {
  while (!passwd.empty()) {
    const size_t end = passwd.find('\n');
    std::string_view line = passwd.substr(0, end);
    std::string_view fields[7];
    size_t count = 0;
    while (count < 7) {
      const size_t colon = line.find(':');
      fields[count++] = line.substr(0, colon);
      if (colon == std::string_view::npos) break;
      line.remove_prefix(colon + 1);
    }
    uint32_t found = 0;
    const auto [last, error] =
        std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), found);
    const bool whole = error == std::errc() && last == fields[2].data() + fields[2].size();
    // A NUL would end the variable early: no such line.
    const bool usable = !fields[5].empty() && !fields[5].contains('\0');
    if (count >= 6 && whole && found == uid && usable) return std::string(fields[5]);
    if (end == std::string_view::npos) break;
    passwd.remove_prefix(end + 1);
  }
  return "/";
}

}  // namespace amphora::runtime
