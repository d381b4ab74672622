// SPDX-License-Identifier: Apache-2.0
// Errc -> ttrpc code.
#include "shim/status.h"

#include <string>
#include <string_view>
#include <utility>

#include "executor/base/error.h"

namespace amphora::ttrpc {
namespace {

Code to_code(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalid:
      return Code::kInvalidArgument;
    case Errc::kNotFound:
      return Code::kNotFound;
    case Errc::kExists:
      return Code::kAlreadyExists;
    case Errc::kPrecondition:
      return Code::kFailedPrecondition;
    case Errc::kUnsupported:
      return Code::kUnimplemented;
    // A failed system call is the host's doing, not a bug of ours: containerd's clients show Unknown
    // as the bare text, which is what a person needs.
    case Errc::kSystem:
      return Code::kUnknown;
    case Errc::kInternal:
      return Code::kInternal;
  }
  return Code::kInternal;
}

/// The words of Go's errdefs for a class: older clients of containerd cut them off and put their own
/// in place, newer ones show the text as it came and people look for them ("...: not found").
const char* class_words(Errc code) noexcept {
  switch (code) {
    case Errc::kNotFound:
      return ": not found";
    case Errc::kExists:
      return ": already exists";
    case Errc::kPrecondition:
      return ": failed precondition";
    case Errc::kInvalid:
    case Errc::kUnsupported:
    case Errc::kSystem:
    case Errc::kInternal:
      return "";
  }
  return "";
}

}  // namespace

Status to_status(const Error& error) {
  std::string text = error.what();
  const std::string_view words = class_words(error.code());
  if (!text.ends_with(words)) text += words;
  return {to_code(error.code()), std::move(text)};
}

}  // namespace amphora::ttrpc
