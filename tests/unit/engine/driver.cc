// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/engine/driver.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#ifndef ENGINE_OPTIONS
#define ENGINE_OPTIONS
#endif

namespace engine_test {
namespace {

const amphora_engine& open_object(const std::string& name) {
  const std::string path = std::string(AMPHORA_BUILD_DIR) + "/lib/amphora/" + name;
  void* object = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (object == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::abort();
  }
  using Entry = const amphora_engine* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(object, "amphora_engine_entry"));
  return *entry();
}

// What a child tells its parent; shared memory, since the guest owns the descriptors.
struct Shared {
  int code[2];
  char text[2][1000];
  int exit_code;
  int threads;
};

Shared* shared_page() {
  void* page =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* shared = static_cast<Shared*>(page);
  shared->code[0] = shared->code[1] = shared->exit_code = shared->threads = -1;
  return shared;
}

amphora_error error_buffer(Shared* shared, int which) {
  return {shared->text[which], sizeof shared->text[which]};
}

int wait_for(pid_t pid) {
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

int in_child(const std::function<void()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  return wait_for(pid);
}

int count_threads() {
  int count = 0;
  DIR* dir = opendir("/proc/self/task");
  while (const dirent* entry = readdir(dir)) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

std::vector<const char*> pointers(const std::vector<std::string>& strings) {
  std::vector<const char*> list;
  for (const auto& one : strings) list.push_back(one.c_str());
  list.push_back(nullptr);
  return list;
}

void in_guest_process(const Job& what, Shared* shared, int in, int out, int err) {
  if (what.default_signals) {
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
  }
  if (what.listen_fd >= 0) signal(SIGTERM, runtime().interrupt);
  const auto args = pointers(what.args);
  const auto env = pointers(what.env);
  std::vector<std::string> words;
  for (const char* const* word = variant().options; *word != nullptr; word++)
    words.push_back(*word);
  words.insert(words.end(), what.options.begin(), what.options.end());
  const auto options = pointers(words);
  std::vector<amphora_preopen> preopens;
  for (const auto& one : what.directories) {
    preopens.push_back({open(one.host.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), one.guest.c_str(),
                        one.read_only ? 1u : 0u});
  }
  const amphora_config config{sizeof config, options.data(), nullptr};
  amphora_guest guest{};
  guest.size = sizeof guest;
  guest.artifact_fd = open(what.artifact.c_str(), O_RDONLY | O_CLOEXEC);
  guest.entry = what.entry.empty() ? nullptr : what.entry.c_str();
  guest.args = args.data();
  guest.env = env.data();
  guest.preopens = preopens.data();
  guest.preopen_count = preopens.size();
  guest.stdio[0] = in;
  guest.stdio[1] = out;
  guest.stdio[2] = err;
  guest.listen_fd = what.listen_fd;
  guest.memory_limit = what.memory_limit;
  guest.config = &config;
  amphora_error first = error_buffer(shared, 0);
  amphora_error second = error_buffer(shared, 1);
  shared->code[0] = runtime().load(&guest, &first);
  if (shared->code[0] != AMPHORA_OK) return;
  shared->code[1] = runtime().run(&guest, &shared->exit_code, &second);
  shared->threads = count_threads();
}

// Reads both pipes until their ends.
void drain(int out, int err, Result* result) {
  pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* texts[2] = {&result->out, &result->err};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    poll(fds, 2, -1);
    for (int i = 0; i < 2; i++) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = read(fds[i].fd, buffer, sizeof buffer);
      if (n <= 0) fds[i].fd = -1;
      if (n > 0) texts[i]->append(buffer, static_cast<size_t>(n));
    }
  }
}

}  // namespace

const amphora_config& variant() {
  static const char* const options[] = {ENGINE_OPTIONS nullptr};
  static const amphora_config config{sizeof config, options, AMPHORA_BUILD_DIR "/lib/amphora"};
  return config;
}

const amphora_engine& runtime() {
  static const amphora_engine& engine = []() -> const amphora_engine& {
    const auto& opened = open_object("libamphora-engine-" ENGINE_UNDER_TEST ".so");
    char text[200] = "";
    amphora_error error{text, sizeof text};
    if (opened.prepare(&variant(), &error) != AMPHORA_OK) {
      std::fprintf(stderr, "prepare: %s\n", text);
      std::abort();
    }
    return opened;
  }();
  return engine;
}

const amphora_engine& compiler() {
  static const amphora_engine& engine = open_object("libamphora-compiler-" ENGINE_UNDER_TEST ".so");
  return engine;
}

std::string guests_path(std::string_view name) {
  return std::string(AMPHORA_BUILD_DIR) + "/guests/" + std::string(name);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

namespace {

amphora_bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The file that `work` writes in a child, made once for each `key`.
std::string made(std::string_view key, Answer* answer,
                 const std::function<int(int out, amphora_error* error)>& work) {
  static const TempDir artifacts;
  static std::map<std::string, std::string, std::less<>> known;
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const std::string path = artifacts.path() + "/" + std::to_string(known.size());
  Shared* shared = shared_page();
  in_child([&] {
    const int out = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    amphora_error error = error_buffer(shared, 0);
    shared->code[0] = work(out, &error);
  });
  const Answer told{shared->code[0], shared->text[0]};
  munmap(shared, sizeof *shared);
  if (answer != nullptr) *answer = told;
  if (told.code != AMPHORA_OK) {
    EXPECT_NE(answer, nullptr) << told.text;
    return "";
  }
  return known.emplace(key, path).first->second;
}

}  // namespace

std::string compile(std::string_view input, Answer* answer) {
  return made(input, answer, [&](int out, amphora_error* error) {
    return compiler().compile(bytes_of(input), out, &variant(), error);
  });
}

std::string link(const Parts& parts, Answer* answer) {
  std::string key;
  std::vector<amphora_part> raw;
  for (const auto& [name, bytes] : parts) {
    key += name + '\0' + bytes + '\0';
    raw.push_back({name.c_str(), bytes_of(bytes)});
  }
  return made(key, answer, [&](int out, amphora_error* error) {
    return compiler().link(raw.data(), raw.data() + 1, raw.size() - 1, out, &variant(), error);
  });
}

std::string compile_guest(std::string_view name) { return compile(read_file(guests_path(name))); }

Answer check(std::string_view input) {
  Shared* shared = shared_page();
  in_child([&] {
    amphora_error error = error_buffer(shared, 0);
    shared->code[0] =
        compiler().check({reinterpret_cast<const uint8_t*>(input.data()), input.size()}, &error);
  });
  Answer answer{shared->code[0], shared->text[0]};
  munmap(shared, sizeof *shared);
  return answer;
}

Result run(const Job& what) {
  runtime();
  Result result;
  Shared* shared = shared_page();
  int in[2];
  int out[2];
  int err[2];
  EXPECT_EQ(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC) + pipe2(err, O_CLOEXEC), 0);
  EXPECT_EQ(write(in[1], what.input.data(), what.input.size()), ssize_t(what.input.size()));
  close(in[1]);
  const pid_t pid = fork();
  if (pid == 0) {
    close(out[0]);
    close(err[0]);
    in_guest_process(what, shared, what.stdin_fd == -2 ? in[0] : what.stdin_fd, out[1], err[1]);
    _exit(0);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  if (what.meanwhile) what.meanwhile(pid);
  drain(out[0], err[0], &result);
  close(out[0]);
  close(err[0]);
  result.wait_status = wait_for(pid);
  result.load = {shared->code[0], shared->text[0]};
  result.run = {shared->code[1], shared->text[1]};
  result.exit_code = shared->exit_code;
  result.threads = shared->threads;
  munmap(shared, sizeof *shared);
  return result;
}

TempDir::TempDir() {
  std::string name = std::filesystem::temp_directory_path() / "amphora-engine-XXXXXX";
  path_ = mkdtemp(name.data());
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TempDir::write(std::string_view name, std::string_view content) const {
  std::ofstream(path_ + "/" + std::string(name), std::ios::binary) << content;
}

void TempDir::make(std::string_view name) const {
  std::filesystem::create_directories(path_ + "/" + std::string(name));
}

}  // namespace engine_test
