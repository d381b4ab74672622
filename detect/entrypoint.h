// SPDX-License-Identifier: Apache-2.0
// From a program's name to a file in the container: which paths the name stands for (cwd, PATH),
// whether the process's user could execute it, and how a file that a guest named is opened without
// harm. Not here: what the bytes mean (magic), and the verdict.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "detect/view.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

/// The absolute paths that `name` stands for in the container, in the order of execvp: one below
/// cwd for a name with a slash, else one for each entry of the PATH in process.env (runc's default
/// PATH if it has none).
std::vector<std::string> candidate_paths(const oci::Process& process, std::string_view name);

/// Whether the kernel would let the process's user execute a file, judged by owner and mode. Where
/// ids cannot be compared (a joined user namespace, id-mapped mounts) any x bit counts.
bool is_executable(const oci::Spec& spec, const oci::Process& process, const struct stat& info);

/// A regular file found under one of the candidate paths.
struct File {
  std::string path;  ///< as a candidate names it, symlinks unresolved
  UniqueFd fd;       ///< O_PATH
  struct stat info{};
  bool executable = false;
};

struct Search {
  std::vector<File> files;  ///< executable ones first, else as execvp would meet them
  std::string why_none;     ///< the first thing that was wrong, if `files` is empty
};

/// Looks `name` up. Only an executable file can be the native entrypoint, and the first one ends
/// the search; files without an x bit are kept because a wasm module needs none.
Result<Search> search(View& view, const oci::Spec& spec, const oci::Process& process,
                      std::string_view name);

/// The same file opened for reading, close-on-exec. It is reached through our own /proc/self/fd and
/// compared with `file` by device and inode: opening the name again could by now meet a FIFO, a
/// device or another file.
Result<UniqueFd> open_for_reading(const File& file);

}  // namespace amphora::detect
