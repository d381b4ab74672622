// SPDX-License-Identifier: Apache-2.0
// The shim's log: spdlog with a sink that writes logrus' text form (time="..." level=info
// msg="..."), which containerd copies verbatim to its own, to a descriptor. Lines are dropped rather
// than waited for: a full FIFO must not stall a task.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "executor/base/fd.h"

namespace spdlog {
class logger;
}

namespace amphora::shim {

/// Opens the bundle's FIFO `log` (working directory) without ever blocking; survives containerd's
/// restarts because it is open for reading too. No FIFO: -1, lines go nowhere.
UniqueFd open_log_fifo();

/// `fields` follow every message: " namespace=default". A line is one write, so any thread may log.
std::shared_ptr<spdlog::logger> make_logger(UniqueFd fd, std::string fields, bool debug);

/// Quoted as Go's %q would, for log fields and messages.
std::string quoted(std::string_view text);

}  // namespace amphora::shim
