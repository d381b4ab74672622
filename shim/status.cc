// SPDX-License-Identifier: Apache-2.0
// Errc -> ttrpc code.
#include "shim/status.h"

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

}  // namespace

Status to_status(const Error& error) { return {to_code(error.code()), error.what()}; }

}  // namespace amphora::ttrpc
