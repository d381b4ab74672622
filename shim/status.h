// SPDX-License-Identifier: Apache-2.0
// From our error classes to the codes of ttrpc (they are gRPC's), in one switch.
#pragma once

#include <cstdint>
#include <string>

#include "executor/base/error.h"

namespace amphora::ttrpc {

enum class Code : int32_t {
  kOk = 0,
  kCanceled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
};

struct Status {
  Code code = Code::kOk;
  std::string message;  ///< the human reason; to_status ends it with the words of its class
};

Status to_status(const Error& error);

}  // namespace amphora::ttrpc
