// SPDX-License-Identifier: Apache-2.0
// See programs.h.
#include "wasm/programs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

#ifndef AMPHORA_PREFIX
#define AMPHORA_PREFIX "/usr/local"
#endif
#ifndef AMPHORA_LIBDIR
#define AMPHORA_LIBDIR "lib"
#endif

namespace amphora::wasm {
namespace {

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string directory_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? "" : std::string(path.substr(0, slash));
}

/// The directory of the running program, by the kernel's word. Run from a detached mount it is "/", from
/// a memfd "/memfd:...".
std::string by_link() {
  char link[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", link, sizeof link);
  if (n <= 1 || n == sizeof link) return "";
  const std::string_view path(link, static_cast<size_t>(n));
  return path.starts_with("/memfd:") ? "" : directory_of(path);
}

/// The same by argv[0], as the caller's shell or execvp found it.
std::string by_name() {
  const std::string name = program_invocation_name;
  if (name.find('/') != std::string::npos) {
    char real[PATH_MAX];
    return ::realpath(name.c_str(), real) != nullptr ? directory_of(real) : "";
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    char real[PATH_MAX];
    const std::string file = std::string(directory) + "/" + name;
    if (directory.starts_with('/') && ::access(file.c_str(), X_OK) == 0 &&
        ::realpath(file.c_str(), real) != nullptr) {
      return directory_of(real);
    }
    rest = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
  }
  return "";
}

void fill(std::string* member, const std::string& candidate) {
  if (member->empty() && !candidate.empty() && exists(candidate)) *member = candidate;
}

void fill(Programs* programs, const Programs& candidates) {
  fill(&programs->host, candidates.host);
  fill(&programs->image, candidates.image);
  fill(&programs->content, candidates.content);
  fill(&programs->engine_dir, candidates.engine_dir);
}

}  // namespace

Programs find_programs_beside(const std::string& directory) {
  Programs programs;
  if (directory.empty()) return programs;
  fill(&programs.host, directory + "/../libexec/amphora/amphora-wasm");
  fill(&programs.image, directory + "/../libexec/amphora/amphora-image");
  fill(&programs.content, directory + "/../libexec/amphora/amphora-content");
  fill(&programs.engine_dir, directory + "/../" AMPHORA_LIBDIR "/amphora");
  fill(&programs.engine_dir, directory + "/../lib/amphora");
  // As `ctr install` leaves it, which takes files of bin/ and lib/ and no others.
  fill(&programs.host, directory + "/amphora-wasm");
  fill(&programs.image, directory + "/amphora-image");
  fill(&programs.content, directory + "/amphora-content");
  for (const char* engine : {"wasmtime", "wamr"}) {
    const std::string object = directory + "/../lib/libamphora-engine-" + engine + ".so";
    if (exists(object)) fill(&programs.engine_dir, directory + "/../lib");
  }
  // A build tree: shim/ and executor/cli/ beside wasm/host/ and lib/amphora/.
  for (const char* up : {"/..", "/../.."}) {
    fill(&programs.host, directory + up + "/wasm/host/amphora-wasm");
    fill(&programs.image, directory + up + "/image/amphora-image");
    fill(&programs.content, directory + up + "/content/amphora-content");
    fill(&programs.engine_dir, directory + up + "/lib/amphora");
  }
  return programs;
}

Programs find_programs() {
  Programs programs;
  if (const char* host = std::getenv("AMPHORA_WASM_HOST"); host != nullptr) programs.host = host;
  if (const char* dir = std::getenv("AMPHORA_ENGINE_DIR"); dir != nullptr)
    programs.engine_dir = dir;
  fill(&programs, find_programs_beside(by_link()));
  if (const char* dir = std::getenv("AMPHORA_BIN_DIR"); dir != nullptr) {
    fill(&programs, find_programs_beside(dir));
  }
  if (programs.host.empty() || programs.engine_dir.empty()) {
    fill(&programs, find_programs_beside(by_name()));
  }
  // Not found: the names that an error will show.
  if (programs.host.empty()) programs.host = AMPHORA_PREFIX "/libexec/amphora/amphora-wasm";
  if (programs.image.empty()) programs.image = AMPHORA_PREFIX "/libexec/amphora/amphora-image";
  if (programs.content.empty()) {
    programs.content = AMPHORA_PREFIX "/libexec/amphora/amphora-content";
  }
  if (programs.engine_dir.empty())
    programs.engine_dir = AMPHORA_PREFIX "/" AMPHORA_LIBDIR "/amphora";
  return programs;
}

}  // namespace amphora::wasm
