// SPDX-License-Identifier: Apache-2.0
// Building, freezing and printing plans. See plan.h.
#include "executor/setup/plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/init/step.h"

namespace amphora::setup {
namespace {

struct OpName {
  init::Op op;
  const char* name;
};
using enum init::Op;
constexpr OpName kNames[] = {
    {kNop, "nop"},
    {kJoinCgroup, "join-cgroup"},
    {kMountProc, "mount-proc"},
    {kAffinity, "set-affinity"},
    {kAwait, "await-parent"},
    {kFork, "fork"},
    {kRendezvous, "rendezvous"},
    {kSetNamespace, "join-namespace"},
    {kUnshare, "unshare"},
    {kEnterTimeNamespace, "enter-time-namespace"},
    {kSession, "new-session"},
    {kBecomeRoot, "become-root"},
    {kLoopbackUp, "loopback-up"},
    {kPropagation, "propagation"},
    {kAttachRoot, "attach-root"},
    {kEnterDir, "enter-dir"},
    {kOpenTree, "open-tree"},
    {kDumpable, "dumpable"},
    {kMountFs, "mount-fs"},
    {kMountOver, "mount-over"},
    {kBind, "bind"},
    {kAttachInDir, "attach-in-dir"},
    {kRemount, "remount"},
    {kTargetPropagation, "target-propagation"},
    {kDeviceNode, "device-node"},
    {kDeviceBind, "device-bind"},
    {kSymlink, "symlink"},
    {kDetach, "detach"},
    {kPivot, "pivot-root"},
    {kMask, "mask"},
    {kReadonlyPath, "readonly-path"},
    {kRemountRoot, "remount-root"},
    {kView, "view"},
    {kHostname, "hostname"},
    {kDomainname, "domainname"},
    {kWriteProc, "write-proc"},
    {kSessionKeyring, "session-keyring"},
    {kConsole, "console"},
    {kStdio, "stdio"},
    {kOwnStdio, "own-stdio"},
    {kUmask, "umask"},
    {kRlimit, "rlimit"},
    {kNoNewPrivs, "no-new-privileges"},
    {kSeccomp, "seccomp"},
    {kScheduler, "scheduler"},
    {kIoPriority, "io-priority"},
    {kPersonality, "personality"},
    {kMemoryPolicy, "memory-policy"},
    {kDropBounding, "drop-bounding-set"},
    {kKeepCaps, "keep-caps"},
    {kSetGroups, "set-groups"},
    {kSetGid, "set-gid"},
    {kSetUid, "set-uid"},
    {kSetCaps, "set-caps"},
    {kRaiseAmbient, "raise-ambient"},
    {kChdir, "chdir"},
    {kFindExe, "find-executable"},
    {kTidy, "tidy"},
    {kReady, "ready"},
    {kAwaitStart, "await-start"},
    {kHook, "hook"},
    {kCloseFds, "close-fds"},
    {kExec, "exec"},
    {kHandOver, "hand-over"},
};

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[c & 15];
      continue;
    }
    out += c;
  }
  out += '"';
}

}  // namespace

const char* to_string(init::Op op) noexcept {
  for (const OpName& entry : kNames) {
    if (entry.op == op) return entry.name;
  }
  return "unknown";
}

Plan::~Plan() {
  std::vector<UniqueFd> owned;
  give_sources(owned);
  sys::close_all(owned);
}

void Plan::give_sources(std::vector<UniqueFd>& out) {
  out.reserve(out.size() + sources.size() + 1);
  for (Source& source : sources) {
    if (source.fd) out.push_back(std::move(source.fd));
    if (source.spent) out.push_back(std::move(source.spent));
  }
  if (pid_namespace_fd) out.push_back(std::move(pid_namespace_fd));
}

init::View Plan::view() const noexcept {
  init::View view{};
  view.header = reinterpret_cast<const init::Header*>(blob_.data());
  view.steps = reinterpret_cast<const init::Step*>(view.header + 1);
  view.text = reinterpret_cast<const char*>(view.steps + view.header->step_count);
  view.fds = fds_.data();
  view.fd_count = static_cast<uint32_t>(fds_.size());
  return view;
}

std::span<const init::Step> Plan::steps() const noexcept {
  const init::View v = view();
  return {v.steps, v.header->step_count};
}

const char* Plan::text(uint32_t offset) const noexcept {
  const init::View v = view();
  return offset < v.header->text_size ? v.text + offset : "";
}

std::string Plan::describe() const {
  std::string out;
  size_t number = 0;
  for (const init::Step& step : steps()) {
    out += std::to_string(number++) + " " + to_string(step.op) + ": " + text(step.what) + "\n";
  }
  return out;
}

std::string Plan::describe_json() const {
  std::string out = "[";
  size_t number = 0;
  for (const init::Step& step : steps()) {
    out += number == 0 ? "\n  " : ",\n  ";
    out += "{\"step\": " + std::to_string(number++) + ", \"op\": ";
    append_json_string(out, to_string(step.op));
    out += ", \"what\": ";
    append_json_string(out, text(step.what));
    out += "}";
  }
  return out + "\n]\n";
}

Builder::Builder() {
  steps_.reserve(96);
  text_.reserve(8192);
  text_.push_back('\0');
}

init::Step& Builder::step(init::Op op, std::string_view what) {
  init::Step step{};
  step.op = op;
  step.fd = -1;
  step.what = text(what);
  steps_.push_back(step);
  return steps_.back();
}

uint32_t Builder::text(std::string_view text) {
  if (text.empty()) return 0;
  const auto offset = static_cast<uint32_t>(text_.size());
  text_.append(text);
  text_.push_back('\0');
  return offset;
}

uint32_t Builder::bytes(const void* data, size_t size) {
  text_.resize((text_.size() + 7) & ~size_t{7});
  const auto offset = static_cast<uint32_t>(text_.size());
  text_.append(static_cast<const char*>(data), size);
  return offset;
}

uint32_t Builder::table(std::span<const std::string> strings) {
  std::vector<uint64_t> offsets;
  offsets.reserve(strings.size() + 1);
  for (const std::string& string : strings) {
    // Offset 0 would end the table, so an empty string gets a place of its own.
    const auto offset = static_cast<uint64_t>(text_.size());
    text_.append(string);
    text_.push_back('\0');
    offsets.push_back(offset);
  }
  offsets.push_back(0);
  return bytes(offsets.data(), offsets.size() * sizeof(uint64_t));
}

uint32_t Builder::list(std::span<const std::string> strings) {
  const auto offset = static_cast<uint32_t>(text_.size());
  for (const std::string& string : strings) {
    text_.append(string);
    text_.push_back('\0');
  }
  text_.push_back('\0');
  return offset;
}

int32_t Builder::source(Source&& source) {
  if (source.kind == Source::Kind::kNamespace) {
    // One look at the path for all who mean the same namespace.
    const auto same = std::ranges::find_if(plan_.sources, [&](const Source& other) {
      return other.kind == source.kind && other.path == source.path && other.n == source.n;
    });
    if (same != plan_.sources.end()) return static_cast<int32_t>(same - plan_.sources.begin());
  }
  plan_.sources.push_back(std::move(source));
  return static_cast<int32_t>(plan_.sources.size() - 1);
}

int32_t Builder::given(int fd, std::string_view what) {
  Source given;
  given.kind = Source::Kind::kGiven;
  given.borrowed = fd;
  given.what = what;
  return source(std::move(given));
}

Plan Builder::finish() {
  init::Header header{};
  header.magic = init::kMagic;
  header.version = init::kVersion;
  header.step_count = static_cast<uint32_t>(steps_.size());
  header.text_size = static_cast<uint32_t>(text_.size());
  Plan plan = std::move(plan_);
  plan.blob_.reserve(sizeof header + steps_.size() * sizeof(init::Step) + text_.size());
  plan.blob_.append(reinterpret_cast<const char*>(&header), sizeof header);
  plan.blob_.append(reinterpret_cast<const char*>(steps_.data()),
                    steps_.size() * sizeof(init::Step));
  plan.blob_.append(text_);
  return plan;
}

}  // namespace amphora::setup
