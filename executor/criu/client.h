// SPDX-License-Identifier: Apache-2.0
// CRIU, asked by its RPC (criu.org/RPC): one worker process ("criu swrk") for each request, its messages
// on a socket pair. Field numbers are those of CRIU's rpc.proto. Not here: what a container's
// checkpoint consists of (runtime/checkpoint.cc, restore.cc).
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/criu/wire.h"

namespace amphora::criu {

enum class Request : uint8_t { kDump = 1, kRestore = 2, kPreDump = 4 };

/// Fields of criu_opts.
enum Option : uint32_t {
  kImagesDirFd = 1,
  kPid = 2,
  kLeaveRunning = 3,
  kExternalUnixSockets = 4,
  kTcpEstablished = 5,
  kEvasiveDevices = 6,
  kShellJob = 7,
  kFileLocks = 8,
  kLogLevel = 9,
  kLogFile = 10,
  kPageServer = 11,
  kNotifyScripts = 12,
  kRoot = 13,
  kParentImage = 14,
  kTrackMemory = 15,
  kAutoDedup = 16,
  kWorkDirFd = 17,
  kLinkRemap = 18,
  kManageCgroups = 24,
  kRestoreSibling = 26,
  kInheritFd = 27,
  kExternalMasters = 30,
  kManageCgroupsMode = 34,
  kExternal = 37,
  kEmptyNamespaces = 38,
  kFreezeCgroup = 44,
  kTcpSkipInFlight = 46,
  kLazyPages = 48,
  kStatusFd = 49,
  kOrphanPtsMaster = 50,
  kLsmProfile = 53,
};

/// Values of manage_cgroups_mode.
enum class CgroupsMode : uint8_t { kIgnore = 0, kSoft = 3, kFull = 4, kStrict = 5 };
/// soft, full, strict or ignore, which the empty word means too; kInvalid for others.
Result<CgroupsMode> parse_cgroups_mode(std::string_view word);
/// The flags of namespaces whose content is left alone, of their names; kInvalid for what CRIU cannot leave alone.
Result<uint64_t> parse_empty_namespaces(const std::vector<std::string>& names);

/// What the worker tells while it works; it waits for the answer.
struct Notification {
  std::string script;  ///< "post-restore", "orphan-pts-master", ...
  pid_t pid = 0;       ///< of the container's init, in our pid namespace
  UniqueFd fd;         ///< the terminal's master
};
using OnNotification = std::function<Result<void>(Notification&)>;

class Client {
 public:
  struct Place {
    /// Gets a mount namespace of its own in which this directory is a mount point (criu's restore wants
    /// one for the root); empty: neither.
    std::string root;
    /// Descriptors that it gets as kFirstInherited and so on (borrowed).
    std::vector<int> inherited;
  };
  static constexpr int kFirstInherited = 4;

  /// Starts the worker: `criu` from PATH. kUnsupported when there is none.
  static Result<Client> start(const Place& place, Children& children);
  Client(Client&&) = default;
  Client& operator=(Client&&) = delete;
  ~Client();

  /// One request and its answer. Directories are named by our descriptors, which the worker opens through
  /// /proc; kInheritFd by its own. An answer of `on_notification` that is an error ends the request.
  Result<void> call(Request request, const Writer& options, const OnNotification& on_notification);
  const Process& process() const noexcept { return process_; }

 private:
  Client(UniqueFd socket, Process process, Children& children)
      : socket_(std::move(socket)), process_(std::move(process)), children_(&children) {}
  struct Answer;
  Result<Answer> receive();

  UniqueFd socket_;
  Process process_;
  Children* children_;
};

}  // namespace amphora::criu
