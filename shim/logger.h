// SPDX-License-Identifier: Apache-2.0
// A logging program that a client asked for (binary:///path?key=value): gets the output of a process
// on its descriptors 3 and 4 and says on 5 when it is ready.
#pragma once

#include <memory>
#include <string>

#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "shim/loop.h"

namespace amphora::shim {

struct LoggerPipes {
  UniqueFd out, err;  ///< write ends, for the payload
  Process process;    ///< reaped with the orphans
};

/// Starts it and waits until it is ready (bounded). `uri` is the whole string; blocks.
Result<LoggerPipes> start_logger(const std::string& uri, const std::string& id,
                                 const std::string& name_space, Children& children);

/// SIGTERM now, SIGKILL when it has not ended in time.
void stop_logger(Loop& loop, Process process);

/// argv of the program: the path, then each key and its value. For the tests.
Result<std::vector<std::string>> logger_words(const std::string& uri);

}  // namespace amphora::shim
