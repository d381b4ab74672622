// SPDX-License-Identifier: Apache-2.0
// Error's text building. See error.h.
#include "executor/base/error.h"

#include <string.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace amphora {

Error Error::from_errno(int err, std::string_view call) {
  std::string text(call);
  text += ": ";
  char buffer[128];
  const char* const words = strerror_r(err, buffer, sizeof buffer);
  // As Go prints them: podman and CRI-O look for "no such file or directory" and "permission denied",
  // in this case of letters. A few begin with an abbreviation ("RPC struct is bad"), which stays.
  const bool abbreviation =
      words[0] != 0 && std::isupper(static_cast<unsigned char>(words[1])) != 0;
  if (abbreviation) {
    text += words;
  } else if (words[0] != 0) {
    text += static_cast<char>(std::tolower(static_cast<unsigned char>(words[0])));
    text += words + 1;
  }
  Error error(Errc::kSystem, std::move(text));
  error.errno_ = err;
  return error;
}

Error&& Error::context(std::string_view outer) && {
  std::string text;
  text.reserve(outer.size() + 2 + text_.size());
  text.append(outer).append(": ").append(text_);
  text_ = std::move(text);
  return std::move(*this);
}

Error&& Error::hint(std::string_view advice) && {
  text_.append(" (").append(advice).append(")");
  return std::move(*this);
}

std::unexpected<Error> fail_errno(int err, std::string_view call) {
  return std::unexpected<Error>(Error::from_errno(err, call));
}

void check_failed(const char* condition, const char* file, int line) noexcept {
  // Not a log line: the process ends here, and stderr may be all that is left.
  char text[512];
  const int n = std::snprintf(text, sizeof text, "amphora: check failed at %s:%d: %s\n", file, line,
                              condition);
  if (n > 0) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, std::strlen(text));
  }
  std::abort();
}

}  // namespace amphora
