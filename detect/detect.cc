// SPDX-License-Identifier: Apache-2.0
// The decision: each file that argv[0] may stand for is read, its first bytes are classified, and
// the verdict gets its words. See docs/detection.md for the table.
#include "detect/detect.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "detect/entrypoint.h"
#include "detect/libraries.h"
#include "detect/magic.h"
#include "detect/verdict.h"
#include "detect/view.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

namespace {

constexpr off_t kMaxWatScan = off_t{64} << 10;  // comments before the first token of a wat text
constexpr unsigned kMaxSplits = 8;  // '#' that are tried as the start of an export's name

using Head = std::span<const std::byte>;

/// What a file turned out to be.
struct Finding {
  Kind kind = Kind::kNative;
  bool sure = false;  ///< the bytes say so
  std::string reason, not_wasm, not_wat;
  std::string unread;  ///< why nothing could be said
  UniqueFd module;
};

/// Up to `buffer`'s size from `offset`; fewer only at the end of the file.
Result<Head> read_at(int fd, off_t offset, std::span<std::byte> buffer) {
  size_t used = 0;
  while (used < buffer.size()) {
    const ssize_t n =
        ::pread(fd, &buffer[used], buffer.size() - used, offset + static_cast<off_t>(used));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read");
    if (n == 0) break;
    used += static_cast<size_t>(n);
  }
  return Head(buffer).first(used);
}

/// Whether the first token of a text is `(`; the words against it otherwise.
Result<std::string> why_no_paren(int fd) {
  std::array<std::byte, 4096> buffer;
  WatScan scan;
  auto answer = WatScan::Answer::kMore;
  for (off_t offset = 0; answer == WatScan::Answer::kMore && offset < kMaxWatScan;) {
    TRY_ASSIGN(const auto chunk, read_at(fd, offset, buffer));
    answer = chunk.size() < buffer.size() ? (scan.feed(chunk), scan.end()) : scan.feed(chunk);
    if (chunk.size() < buffer.size()) break;
    offset += static_cast<off_t>(chunk.size());
  }
  switch (answer) {
    case WatScan::Answer::kParen:
      return std::string();
    case WatScan::Answer::kMore:
      return std::string("no `(` after blanks and comments");
    case WatScan::Answer::kOther:
      return std::string("first token is not `(`");
    case WatScan::Answer::kNotText:
      return std::string("not UTF-8 text");
  }
  return std::string("not text");
}

/// Empty if the file is wasm text, else why it is not.
Result<std::string> why_not_wat(int fd, off_t size, const WatCheck& wat_check) {
  TRY_ASSIGN(auto why, why_no_paren(fd));
  if (!why.empty()) return why;
  if (size > static_cast<off_t>(kMaxWatBytes)) {
    return fmt::format("{} bytes of text, at most {} are checked", size, kMaxWatBytes);
  }
  if (!wat_check) return std::string("nobody to check it");
  auto checked = wat_check(fd);
  if (checked) return std::string();
  return checked.error().what();
}

void describe_text(Finding& finding, std::string why) {
  if (why.empty()) {
    finding.kind = Kind::kWasmText;
    finding.sure = true;
    finding.reason = "text that the wat parser accepts: wasm text";
  } else {
    finding.not_wat = std::move(why);
  }
}

/// Why text that cannot begin a wat file is none.
std::string why_not_text(Head head) {
  if (head.empty()) return "file is empty";
  WatScan scan;
  return scan.feed(head) == WatScan::Answer::kNotText ? "not UTF-8 text" : "first token is not `(`";
}

Result<Finding> classify_file(int fd, off_t size, bool wasm_allowed, const WatCheck& wat_check) {
  std::array<std::byte, kHeadBytes> buffer;
  TRY_ASSIGN(const auto head, read_at(fd, 0, buffer));
  Finding finding;
  const auto decide = [&](Kind kind, size_t shown, const char* what) {
    finding.kind = kind;
    finding.sure = true;
    finding.reason = fmt::format("first bytes {}: {}", hex(head, shown), what);
  };
  switch (classify(head)) {
    case Format::kElf:
      decide(Kind::kNative, 4, "ELF program");
      return finding;
    case Format::kScript:
      decide(Kind::kNative, 2, "script");
      return finding;
    case Format::kWasm:
      decide(Kind::kWasmModule, 8, "wasm module");
      return finding;
    case Format::kComponent:
      decide(Kind::kWasmComponent, 8, "wasm component");
      return finding;
    case Format::kMaybeText:
      if (wasm_allowed) {
        TRY_ASSIGN(auto why, why_not_wat(fd, size, wat_check));
        describe_text(finding, std::move(why));
      } else {
        finding.not_wat = fmt::format("annotation {} is off", kWasmAnnotation);
      }
      break;
    case Format::kUnknown:
      finding.not_wat = why_not_text(head);
      break;
  }
  finding.not_wasm = why_not_wasm(head);
  if (!finding.sure) {
    finding.reason = head.empty() ? "empty file, native by default"
                                  : fmt::format("first bytes {}: nothing known, native by default",
                                                hex(head, 4));
  }
  return finding;
}

/// A file that cannot be read may still be executed (mode 0111).
Finding unreadable(const Error& error) {
  Finding finding;
  finding.reason = "file cannot be read, native by default";
  finding.unread = error.what();
  return finding;
}

Result<Finding> inspect(const File& file, bool wasm_allowed, const WatCheck& wat_check) {
  auto fd = open_for_reading(file);
  if (!fd) {
    const int err = fd.error().sys_errno();
    if (err == EMFILE || err == ENFILE || err == ENOMEM)
      return std::unexpected(std::move(fd).error());
    return unreadable(fd.error());
  }
  auto finding = classify_file(fd->get(), file.info.st_size, wasm_allowed, wat_check);
  if (!finding) return unreadable(finding.error());
  finding->module = std::move(*fd);
  return finding;
}

/// Takes out of both what a verdict keeps.
Verdict to_verdict(File& file, Finding& finding, std::string_view function) {
  Verdict verdict{.kind = finding.kind,
                  .path = std::move(file.path),
                  .function = std::string(function),
                  .reason = std::move(finding.reason),
                  .why_not = {},
                  .module = {},
                  .artifacts = nullptr};
  if (finding.kind != Kind::kNative) verdict.module = std::move(finding.module);
  if (finding.sure) return verdict;
  if (!finding.unread.empty()) {
    verdict.why_not =
        fmt::format("whether {} is wasm is not known: {}", verdict.path, finding.unread);
    return verdict;
  }
  verdict.why_not = fmt::format("{} is neither ELF nor script; not wasm: {}; not wat: {}",
                                verdict.path, finding.not_wasm, finding.not_wat);
  return verdict;
}

/// The annotation turns what would be a guest into a native program (binfmt_misc may run it).
void forbid(Verdict& verdict) {
  verdict.why_not = fmt::format("{} is a {}, and annotation {} forbids to run it as such",
                                verdict.path, to_string(verdict.kind), kWasmAnnotation);
  verdict.reason += fmt::format("; native because annotation {} is off", kWasmAnnotation);
  verdict.kind = Kind::kNative;
  verdict.module.reset();
}

/// One name, '#' and all that follows cut off or not.
struct Attempt {
  std::optional<Verdict> verdict;
  std::string why_none;
};

Result<Attempt> attempt(View& view, const oci::Spec& spec, const oci::Process& process,
                        std::string_view name, std::string_view function, bool wasm_allowed,
                        const WatCheck& wat_check) {
  Attempt result;
  TRY_ASSIGN(auto found, search(view, spec, process, name));
  result.why_none = std::move(found.why_none);
  for (auto& file : found.files) {
    TRY_ASSIGN(auto finding, inspect(file, wasm_allowed, wat_check));
    const bool runs = file.executable || finding.kind != Kind::kNative;
    const bool executable = file.executable;
    // The first executable file is what execvp would take; without one, the first wasm file counts;
    // and if there is neither, the first file is what the failing exec will be about.
    if (!runs && result.verdict) continue;
    result.verdict = to_verdict(file, finding, function);
    view.done_with(std::move(finding.module));
    view.done_with(std::move(file.fd));
    if (!executable && result.verdict->kind == Kind::kNative && result.verdict->why_not.empty()) {
      result.verdict->why_not =
          fmt::format("{} is not executable for uid {}", result.verdict->path, process.user.uid);
    }
    if (runs) break;
  }
  return result;
}

}  // namespace

Result<bool> is_wasm_allowed(const oci::Spec& spec) {
  const auto found = spec.annotations.find(std::string(kWasmAnnotation));
  if (found == spec.annotations.end() || found->second == "on") return true;
  if (found->second == "off") return false;
  return fail(Errc::kInvalid, fmt::format("annotations[\"{}\"]: \"{}\" is neither on nor off",
                                          kWasmAnnotation, found->second));
}

Result<Verdict> detect(const oci::Spec& spec, const oci::Process& process, int rootfs_fd,
                       const WatCheck& wat_check, bool mounts_made, int bundle_fd) {
  if (process.args.empty()) return fail(Errc::kInvalid, "process.args: is empty");
  TRY_ASSIGN(const bool wasm_allowed, is_wasm_allowed(spec));
  TRY_ASSIGN(auto view, View::make(rootfs_fd, bundle_fd, spec.mounts, mounts_made));
  const std::string_view name = process.args[0];
  const auto look = [&](std::string_view file, std::string_view function) {
    return attempt(view, spec, process, file, function, wasm_allowed, wat_check);
  };

  // The whole name first: a native program may well have a '#' in it.
  TRY_ASSIGN(auto whole, look(name, {}));
  auto chosen = std::move(whole.verdict);
  auto hash = name.find('#');
  for (unsigned n = 0; !chosen && hash != name.npos && n < kMaxSplits; ++n) {
    TRY_ASSIGN(auto part, look(name.substr(0, hash), name.substr(hash + 1)));
    if (part.verdict && part.verdict->kind != Kind::kNative) {
      chosen = std::move(part.verdict);
    } else if (part.verdict) {
      whole.why_none += fmt::format("; {} exists, but is not wasm", part.verdict->path);
    }
    hash = name.find('#', hash + 1);
  }
  if (!chosen) {
    Verdict verdict;
    verdict.reason = "entrypoint not found, native by default";
    verdict.why_not = std::move(whole.why_none);
    return verdict;
  }
  if (!wasm_allowed && chosen->kind != Kind::kNative) forbid(*chosen);
  if (chosen->kind != Kind::kNative) {
    TRY_ASSIGN(chosen->libraries, find_libraries(view, spec, process));
  }
  return std::move(*chosen);
}

Result<Verdict> detect_layer(UniqueFd module, std::string_view name, std::string_view origin,
                             const WatCheck& wat_check) {
  struct stat info{};
  if (::fstat(module.get(), &info) != 0) return fail_errno(errno, "stat the layer");
  TRY_ASSIGN(auto finding, classify_file(module.get(), info.st_size, true, wat_check));
  if (finding.kind == Kind::kNative) {
    return fail(Errc::kInvalid, fmt::format("{} is no WebAssembly: {}", origin, finding.reason));
  }
  const auto hash = name.find('#');
  File file{.path = std::string(name.substr(0, hash)), .fd = {}, .info = info, .executable = false};
  finding.module = std::move(module);
  finding.reason += fmt::format(", {}", origin);
  return to_verdict(file, finding, hash == name.npos ? std::string_view() : name.substr(hash + 1));
}

}  // namespace amphora::detect
