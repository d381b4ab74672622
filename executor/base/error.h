// SPDX-License-Identifier: Apache-2.0
// Error, Errc and Result<T>: how every room reports failure. errno becomes an Error only through
// Error::from_errno. Here belong the error value, the two TRY macros and AMPHORA_CHECK; not here:
// logging (only roofs log) and the mapping to ttrpc or exit codes (shim/status, executor/cli).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace amphora {

/// What a caller can do about a failure. Protocol answers (ttrpc codes, exit codes) follow from it.
enum class Errc : uint8_t {
  kInvalid,       ///< the request or the spec is wrong
  kNotFound,      ///< the named object does not exist
  kExists,        ///< the named object exists already
  kPrecondition,  ///< the object is in the wrong state for this
  kUnsupported,   ///< this host or build cannot do it
  kSystem,        ///< a system call failed
  kInternal,      ///< our own mistake, or a peer broke its contract
};

/// A failure: its class, the errno that caused it (0 if none) and a text of nouns, outermost first:
/// "create web: mount proc on /proc: operation not permitted". Lower case, no full stop.
class [[nodiscard]] Error {
 public:
  Error(Errc code, std::string text) : text_(std::move(text)), code_(code) {}

  /// The only door from errno. `call` names the operation and its object ("open /proc").
  /// The class is kSystem; a caller to whom an errno is an answer sets another with `as`.
  static Error from_errno(int err, std::string_view call);

  /// Prepends one noun: "mount proc" + ": " + what().
  Error&& context(std::string_view outer) &&;
  /// Appends what the user can do about it: what() + " (" + advice + ")".
  Error&& hint(std::string_view advice) &&;
  /// Changes the class.
  Error&& as(Errc code) && {
    code_ = code;
    return std::move(*this);
  }

  Errc code() const noexcept { return code_; }
  int sys_errno() const noexcept { return errno_; }
  const std::string& what() const noexcept { return text_; }

 private:
  std::string text_;
  int errno_ = 0;
  Errc code_;
};

template <class T = void>
using Result = std::expected<T, Error>;

/// `return fail(Errc::kInvalid, "...")` in a function that returns a Result.
inline std::unexpected<Error> fail(Errc code, std::string text) {
  return std::unexpected<Error>(Error(code, std::move(text)));
}
/// `return fail_errno(errno, "open /x")` in a function that returns a Result.
std::unexpected<Error> fail_errno(int err, std::string_view call);

/// Ends the process with file, line and `condition`; used by AMPHORA_CHECK only.
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace amphora

/// Evaluates a Result expression, returns its error to the caller if it failed.
#define TRY(expr)                              \
  if (auto try_result_ = (expr); !try_result_) \
  return std::unexpected(std::move(try_result_).error())
/// Like TRY, and assigns the value: TRY_ASSIGN(auto fd, open_it());
#define TRY_ASSIGN(target, expr) TRY_ASSIGN_2(target, expr, __LINE__)
#define TRY_ASSIGN_2(target, expr, line) TRY_ASSIGN_3(target, expr, line)
#define TRY_ASSIGN_3(target, expr, line)                                                    \
  auto try_value_##line##_ = (expr);                                                        \
  if (!try_value_##line##_) return std::unexpected(std::move(try_value_##line##_).error()); \
  target = std::move(*try_value_##line##_)
/// A programming error ends the process, in release builds too.
#define AMPHORA_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::amphora::check_failed(#condition, __FILE__, __LINE__))
