// SPDX-License-Identifier: Apache-2.0
// See compiler.h.
#include "wasm/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "amphora/engine.h"
#include "detect/detect.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"

namespace amphora::wasm {
namespace {

constexpr size_t kMaxText = 4096;
constexpr uint64_t kMaxArtifact = uint64_t{1} << 30;
constexpr uint64_t kCheckMemory = uint64_t{256} << 20;
constexpr int kCheckSeconds = 10;
constexpr int kPipeSize = 1 << 20;

int64_t now_ms() {
  struct timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void from_environment(const char* name, uint64_t* value) {
  const char* text = std::getenv(name);
  if (text == nullptr) return;
  uint64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, number);
  if (error == std::errc() && at == end && at != text) *value = number;
}

/// What one compile process is asked and given.
struct Job {
  std::vector<std::string> args;
  int module = -1;
  std::vector<int> libraries = {};
  const cgroup::Cgroup* cgroup = nullptr;
  int timeout_seconds = 0;
};

/// How it ended.
struct Ended {
  ExitStatus status = ExitStatus::exited(0);
  UniqueFd output;
  std::string text;  ///< its standard error, the first line
  bool timed_out = false;
  bool too_big = false;
  uint64_t oom_kills = 0;  ///< in the container's cgroup meanwhile
};

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

/// One piece from `fd`; false at its end.
bool take(int fd, std::string* buffer) {
  buffer->resize(1 << 16);
  ssize_t n = 0;
  do {
    n = ::read(fd, buffer->data(), buffer->size());
  } while (n < 0 && errno == EINTR);
  buffer->resize(n > 0 ? static_cast<size_t>(n) : 0);
  return n > 0;
}

/// Collects artifact and text until both pipes have ended or the time is over.
Result<void> collect(int output, int error, int timeout_seconds, Ended* ended) {
  const int64_t end = now_ms() + int64_t{1000} * timeout_seconds;
  struct pollfd polls[2] = {{output, POLLIN, 0}, {error, POLLIN, 0}};
  std::string buffer;
  uint64_t size = 0;
  while (polls[0].fd >= 0 || polls[1].fd >= 0) {
    const int64_t left = end - now_ms();
    ended->timed_out = left <= 0;
    if (left <= 0) return {};
    if (::poll(polls, 2, static_cast<int>(left)) < 0 && errno != EINTR) {
      return fail_errno(errno, "wait for the compile process");
    }
    if (polls[0].fd >= 0 && polls[0].revents != 0) {
      if (!take(output, &buffer)) polls[0].fd = -1;
      size += buffer.size();
      ended->too_big = size > kMaxArtifact;
      if (ended->too_big) return {};
      TRY(write_all(ended->output.get(), buffer));
    }
    if (polls[1].fd >= 0 && polls[1].revents != 0) {
      if (!take(error, &buffer)) polls[1].fd = -1;
      if (ended->text.size() < kMaxText) ended->text += buffer;
    }
  }
  return {};
}

/// One line, printable: it goes into errors and logs.
void clean(std::string* text) {
  text->resize(std::min(text->find('\n'), text->size()));
  text->resize(std::min(text->size(), size_t{400}));
  for (char& c : *text) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  }
}

uint64_t oom_kills(const cgroup::Cgroup* cgroup) {
  if (cgroup == nullptr) return 0;
  const auto kills = cgroup->oom_kills();
  return kills ? *kills : 0;
}

Result<Ended> run(HostProgram& program, const Job& job) {
  TRY_ASSIGN(Pipe output, make_pipe());
  TRY_ASSIGN(Pipe error, make_pipe());
  TRY_ASSIGN(Pipe go, make_pipe());
  ::fcntl(output.read.get(), F_SETPIPE_SZ,
          kPipeSize);  // fewer turns; not having it costs time only
  Ended ended;
  ended.output.reset(sys::memfd_create("artifact", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!ended.output) return fail_errno(errno, "make a memfd for the artifact");
  const uint64_t kills_before = oom_kills(job.cgroup);
  std::vector<int> fds{job.module, output.write.get(), go.read.get()};
  fds.insert(fds.end(), job.libraries.begin(), job.libraries.end());
  Result<Process> process = [&] {
    const std::lock_guard lock(program.children().mutex());
    return program.start_locked(job.args, fds, error.write.get());
  }();
  if (!process) return std::unexpected(std::move(process).error());
  output.write.reset();
  error.write.reset();
  go.read.reset();
  // Placed before it is released, so that all it takes counts. Without its byte it ends.
  Result<void> done = job.cgroup != nullptr ? job.cgroup->add(process->pid) : Result<void>();
  if (done) done = write_all(go.write.get(), "g");
  go.write.reset();
  // It may be dead already (killed for memory); its status tells more than our EPIPE.
  if (!done && done.error().sys_errno() == EPIPE) done = {};
  if (done) done = collect(output.read.get(), error.read.get(), job.timeout_seconds, &ended);
  if (!done || ended.timed_out || ended.too_big) {
    sys::pidfd_send_signal(process->pidfd.get(), SIGKILL);
  }
  auto status = wait_for(*process);
  program.children().remove(process->pid);
  TRY(done);
  TRY_ASSIGN(ended.status, std::move(status));
  ended.oom_kills = oom_kills(job.cgroup) - kills_before;
  clean(&ended.text);
  return ended;
}

std::vector<std::string> arguments(const char* task, HostProgram& program,
                                   const std::string& engine,
                                   std::span<const std::string> options) {
  std::vector<std::string> args{"compile", "--engine-dir", program.programs().engine_dir,
                                "--engine", engine};
  if (task != nullptr) args.emplace_back(task);
  for (size_t i = 0; i + 1 < options.size(); i += 2) {
    args.insert(args.end(), {"--option", options[i], options[i + 1]});
  }
  return args;
}

Errc class_of(int code) {
  switch (code) {
    case AMPHORA_ERR_INVALID:
    case AMPHORA_ERR_NOT_FOUND:
    case AMPHORA_ERR_OPTION:
    case AMPHORA_ERR_IMPORTS:
      return Errc::kInvalid;
    case AMPHORA_ERR_UNSUPPORTED:
    case AMPHORA_ERR_THREADS:
      return Errc::kUnsupported;
    case AMPHORA_ERR_SYSTEM:
      return Errc::kSystem;
    default:
      return Errc::kInternal;
  }
}

/// Why there is no artifact, for the cases that are the same for all tasks.
EngineError why(const Ended& ended, const std::string& doing, int timeout_seconds) {
  if (ended.timed_out || ended.status.signal() == SIGXCPU) {
    return Error(Errc::kSystem, doing + " takes longer than " + std::to_string(timeout_seconds) +
                                    " seconds (AMPHORA_COMPILE_TIMEOUT)");
  }
  if (ended.too_big) {
    return Error(Errc::kInvalid,
                 doing + " gives more than " + std::to_string(kMaxArtifact) + " bytes");
  }
  if (ended.status.signal() != 0) {
    std::string text = doing + ": the compile process was ended by signal " +
                       std::to_string(ended.status.signal());
    if (!ended.text.empty()) text += ": " + ended.text;
    return Error(Errc::kSystem, std::move(text));
  }
  const int code = ended.status.code();
  return {Error(class_of(code),
                doing + ": " + (ended.text.empty() ? "failed without a word" : ended.text)),
          code == kCompileBroken ? 0 : code};
}

/// An allocation that the limit denied: Rust aborts with these words, C++ with a bad_alloc.
bool denied_memory(const Ended& ended) {
  return ended.status.signal() == SIGABRT &&
         (ended.text.find("memory allocation of") != std::string::npos ||
          ended.text.find("bad_alloc") != std::string::npos ||
          ended.text.find("out of memory") != std::string::npos);
}

}  // namespace

CompileLimits CompileLimits::from_environment() {
  CompileLimits limits;
  wasm::from_environment("AMPHORA_COMPILE_FLOOR", &limits.floor);
  uint64_t seconds = static_cast<uint64_t>(limits.timeout_seconds);
  wasm::from_environment("AMPHORA_COMPILE_TIMEOUT", &seconds);
  if (seconds > 0 && seconds < 86400) limits.timeout_seconds = static_cast<int>(seconds);
  return limits;
}

EngineResult<UniqueFd> Compiler::compile(const CompileRequest& request) {
  const bool too_small = request.memory_limit && *request.memory_limit < limits_.floor;
  const bool beside =
      !request.always_inside && limits_.floor > 0 && (too_small || request.little_cpu);
  Job job;
  job.args = arguments(nullptr, program_, request.engine, request.options);
  job.module = request.module;
  if (!request.libraries.empty()) {
    const size_t slash = request.name.find_last_of('/');
    job.args.insert(job.args.end(), {"--name", request.name.substr(slash + 1)});
  }
  for (const CompileLibrary& library : request.libraries) {
    job.args.insert(job.args.end(), {"--library", library.name});
    job.libraries.push_back(library.module);
  }
  job.cgroup = beside ? nullptr : request.cgroup;
  job.timeout_seconds = limits_.timeout_seconds;
  // In a cgroup with a limit that one holds; elsewhere an rlimit stands in.
  uint64_t memory = 0;
  if (beside)
    memory = limits_.floor;
  else if (job.cgroup == nullptr && request.memory_limit)
    memory = *request.memory_limit;
  else if (!request.memory_limit)
    memory = limits_.unlimited;
  if (memory != 0) job.args.insert(job.args.end(), {"--memory", std::to_string(memory)});
  // Several threads may compile: twice the wall time of two cores.
  job.args.insert(job.args.end(), {"--cpu", std::to_string(4 * limits_.timeout_seconds)});
  TRY_ASSIGN(Ended ended, run(program_, job));
  if (ended.status.signal() == 0 && ended.status.code() == 0 && !ended.timed_out &&
      !ended.too_big) {
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (::fcntl(ended.output.get(), F_ADD_SEALS, seals) != 0) {
      return fail_errno(errno, "seal the artifact");
    }
    return std::move(ended.output);
  }
  const std::string doing = (request.libraries.empty() ? "compiling " : "linking ") + request.name;
  if (memory != 0 && denied_memory(ended)) {
    return fail(Errc::kSystem, doing + " needs more memory than " +
                                   (beside ? "the compile floor of " + std::to_string(memory) +
                                                 " bytes (AMPHORA_COMPILE_FLOOR)"
                                           : "the limit of " + std::to_string(memory) + " bytes"));
  }
  if (ended.status.signal() == SIGKILL && ended.oom_kills > 0 && request.memory_limit) {
    return fail(Errc::kSystem, doing + " needs more memory than the container's limit of " +
                                   std::to_string(*request.memory_limit) +
                                   " bytes; raise the limit or warm the cache first");
  }
  return std::unexpected(why(ended, doing, limits_.timeout_seconds));
}

Result<void> Compiler::check(const std::string& engine, int module) {
  Job job;
  job.args = arguments("--check", program_, engine, {});
  job.module = module;
  job.timeout_seconds = kCheckSeconds;
  job.args.insert(job.args.end(), {"--memory", std::to_string(kCheckMemory), "--cpu",
                                   std::to_string(kCheckSeconds)});
  TRY_ASSIGN(const Ended ended, run(program_, job));
  if (ended.status.code() == 0 && !ended.timed_out) return {};
  if (ended.status.signal() == 0 && ended.status.code() == AMPHORA_ERR_INVALID) {
    return fail(Errc::kInvalid, ended.text);
  }
  return std::unexpected(why(ended, "checking the text", kCheckSeconds));
}

EngineResult<Identity> Compiler::identify(const std::string& engine,
                                          std::span<const std::string> options) {
  TRY_ASSIGN(const UniqueFd nothing, open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  Job job;
  job.args = arguments("--identify", program_, engine, options);
  job.module = nothing.get();
  job.timeout_seconds = limits_.timeout_seconds;
  TRY_ASSIGN(const Ended ended, run(program_, job));
  if (ended.status.code() != 0 || ended.timed_out) {
    return std::unexpected(why(ended, "wasm engine " + engine, limits_.timeout_seconds));
  }
  Identity identity{};
  const ssize_t n = ::pread(ended.output.get(), &identity, sizeof identity, 0);
  if (n != sizeof identity || identity.size != sizeof identity) {
    return fail(Errc::kInternal, "wasm engine " + engine + ": its identity is malformed");
  }
  identity.engine[sizeof identity.engine - 1] = '\0';
  identity.version[sizeof identity.version - 1] = '\0';
  identity.layer_types[sizeof identity.layer_types - 1] = '\0';
  return identity;
}

detect::WatCheck make_wat_check(Compiler& compiler, std::string engine) {
  return [&compiler, engine = std::move(engine)](int module) {
    return compiler.check(engine, module);
  };
}

}  // namespace amphora::wasm
