// SPDX-License-Identifier: Apache-2.0
// amphora-wasm: the host of WebAssembly guests. Started by amphora and its shim only; parsing of the
// command line yields a struct and does nothing else.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "wasm/compile_protocol.h"
#include "wasm/host/compile.h"
#include "wasm/host/view.h"
#include "wasm/host/zygote.h"

namespace {

using amphora::wasm::CompileOptions;
using amphora::wasm::ZygoteOptions;

constexpr int kUsage = 125;

int usage() {
  static const char kText[] =
      "usage: amphora-wasm zygote FD --engine-dir DIR --engine NAME\n"
      "       amphora-wasm compile [--check | --identify] --engine-dir DIR --engine NAME\n"
      "                            [--memory BYTES] [--cpu SECONDS] [--option KEY VALUE]...\n"
      "                            [--name NAME] [--library NAME]...\n"
      "       amphora-wasm --version\n"
      "The host of WebAssembly guests; amphora and containerd-shim-amphora-v1 start it.\n";
  std::fputs(kText, stderr);
  return kUsage;
}

bool number(const char* text, unsigned long long* value) {
  char* end = nullptr;
  errno = 0;
  *value = std::strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == '\0';
}

int zygote(int argc, char** argv) {
  ZygoteOptions options;
  unsigned long long fd = 0;
  if (argc < 3 || !number(argv[2], &fd) || fd < 3 || fd > 1 << 20) return usage();
  options.socket = static_cast<int>(fd);
  for (int i = 3; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--engine-dir") == 0)
      options.engine_dir = argv[i + 1];
    else if (std::strcmp(argv[i], "--engine") == 0)
      options.engine = argv[i + 1];
    else if (std::strcmp(argv[i], "--view") == 0)
      options.in_view = true;
    else
      return usage();
  }
  if (options.engine_dir == nullptr || options.engine == nullptr) return usage();
  if (!options.in_view) amphora::wasm::enter_view(options.socket, argv);
  return amphora::wasm::serve_zygote(options);
}

int compile(int argc, char** argv) {
  CompileOptions options;
  std::vector<const char*> pairs;
  std::vector<const char*> libraries;
  for (int i = 2; i < argc; ++i) {
    const char* const word = argv[i];
    const int left = argc - i - 1;
    unsigned long long value = 0;
    if (std::strcmp(word, "--check") == 0) {
      options.task = CompileOptions::Task::kCheck;
    } else if (std::strcmp(word, "--identify") == 0) {
      options.task = CompileOptions::Task::kIdentify;
    } else if (std::strcmp(word, "--engine-dir") == 0 && left >= 1) {
      options.engine_dir = argv[++i];
    } else if (std::strcmp(word, "--engine") == 0 && left >= 1) {
      options.engine = argv[++i];
    } else if (std::strcmp(word, "--name") == 0 && left >= 1) {
      options.name = argv[++i];
    } else if (std::strcmp(word, "--library") == 0 && left >= 1 &&
               libraries.size() < amphora::wasm::kMaxLibraries) {
      libraries.push_back(argv[++i]);
    } else if (std::strcmp(word, "--memory") == 0 && left >= 1 && number(argv[i + 1], &value)) {
      options.limits.memory = value;
      ++i;
    } else if (std::strcmp(word, "--cpu") == 0 && left >= 1 && number(argv[i + 1], &value)) {
      options.limits.cpu_seconds = value;
      ++i;
    } else if (std::strcmp(word, "--option") == 0 && left >= 2) {
      pairs.insert(pairs.end(), {argv[i + 1], argv[i + 2]});
      i += 2;
    } else {
      return usage();
    }
  }
  if (options.engine_dir == nullptr || options.engine == nullptr) return usage();
  pairs.push_back(nullptr);
  options.options = pairs.data();
  options.libraries = libraries;
  return amphora::wasm::compile(options);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 2 && std::strcmp(argv[1], "zygote") == 0) return zygote(argc, argv);
  // Without destructors: within its walls the process can do little more than end.
  if (argc >= 2 && std::strcmp(argv[1], "compile") == 0) ::_exit(compile(argc, argv));
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::printf("amphora-wasm %s\n", AMPHORA_VERSION);
    return 0;
  }
  return usage();
}
