// SPDX-License-Identifier: Apache-2.0
// See directories.h.
#include "executor/base/directories.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <string>

#include "executor/base/error.h"

namespace amphora {

Result<void> make_directories(const std::string& path, mode_t parents, mode_t last) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    const bool whole = slash == std::string::npos;
    if (::mkdir(part.c_str(), whole ? last : parents) != 0 && errno != EEXIST) {
      return fail_errno(errno, "make the directory " + part);
    }
    if (whole) return {};
  }
}

}  // namespace amphora
