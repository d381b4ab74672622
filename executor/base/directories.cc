// SPDX-License-Identifier: Apache-2.0
// See directories.h.
#include "executor/base/directories.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

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

Result<std::vector<std::string>> names_in(int dir_fd) {
  // Opened anew: readdir(3) would move the borrowed one's place.
  TRY_ASSIGN(UniqueFd own, open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  const auto close = [](DIR* dir) { ::closedir(dir); };
  const std::unique_ptr<DIR, decltype(close)> dir(::fdopendir(own.get()), close);
  if (!dir) return fail_errno(errno, "list a directory");
  own.release();
  std::vector<std::string> names;
  errno = 0;
  while (const struct dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  if (errno != 0) return fail_errno(errno, "list a directory");
  return names;
}

}  // namespace amphora
