// SPDX-License-Identifier: Apache-2.0
// A v1 cpuset is born empty, and nothing can join one without cpus and mems (ENOSPC). So each new
// level gets its parent's, from the outside in.
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/v1.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

constexpr const char* kFiles[] = {"cpuset.cpus", "cpuset.mems"};

/// The value of `file` in `dir` (at or below `mount`); filled from above where it is empty.
Result<std::string> filled(const std::string& mount, const std::string& dir, const char* file,
                           std::vector<UniqueFd>* open = nullptr) {
  TRY_ASSIGN(const std::string text, read_value(dir, file, open));
  std::string value(trim(text));
  if (!value.empty() || dir.size() <= mount.size()) return value;
  TRY_ASSIGN(std::string above, filled(mount, dir.substr(0, dir.rfind('/')), file));
  TRY(write_value(dir, file, above));
  return above;
}

}  // namespace

Result<void> fill_cpuset(const std::string& mount, const std::string& path,
                         const std::vector<std::string>& made, const oci::Resources& resources) {
  if (path == "/") return {};
  const std::string leaf = mount + path;
  if (made.empty()) {
    for (const char* file : kFiles) TRY(filled(mount, leaf, file));
    return {};
  }
  const std::string& outermost = made.front();
  const std::string parent = outermost.substr(0, outermost.rfind('/'));
  std::vector<UniqueFd> open;  // closed together
  for (const char* file : kFiles) {
    // A value the spec brings is written with the limits, before anything joins.
    const bool leaf_later = resources.cpu && !(file == kFiles[0] ? resources.cpu->cpus.empty()
                                                                 : resources.cpu->mems.empty());
    TRY_ASSIGN(const std::string value, filled(mount, parent, file, &open));
    for (const std::string& dir : made) {
      if (dir == leaf && leaf_later) continue;
      TRY(write_value(dir, file, value, &open));
    }
  }
  sys::close_all(open);
  return {};
}

}  // namespace amphora::cgroup
