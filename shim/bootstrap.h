// SPDX-License-Identifier: Apache-2.0
// The `start` action: decide which shim serves a container (one per pod), reuse a living one or
// spawn it with its listening socket, and answer in the form that this containerd understands. The
// pure decisions are declared here for the tests; the short-lived process itself is start().
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "executor/base/fd.h"
#include "shim/flags.h"
#include "shim/options.h"

namespace amphora::shim {

/// What containerd says to `start`, by flags, environment and stdin, in one form.
struct StartInput {
  bool wants_protobuf = false;  ///< containerd 2.3 and later: it sent BootstrapParams
  bool debug = false;
  std::string grpc_address, ttrpc_address, publish_binary, socket_dir;
  RuntimeOptions options;
};

/// stdin is BootstrapParams only when it names the same id and namespace as the flags: an Any, which
/// older ones send, decodes as one too. Anything undecodable counts as no options.
StartInput parse_start_input(const std::string& bytes, const Flags& flags,
                             const char* ttrpc_address_env, ReadConfig read = read_config);

/// Containers of one group share a shim.
std::string group_of(const std::map<std::string, std::string>& annotations, const std::string& id);

/// SOCKET_DIR/<64 hex>, the same for the same containerd, namespace and group.
std::string socket_path(const StartInput& input, const Flags& flags, const std::string& group);

std::string encode_reply(const StartInput& input, const std::string& address);

/// Listens on `path`, or finds that a living shim does (then the descriptor is empty). A socket that
/// nobody serves any more is replaced. Serialized among helpers by a lock on the directory.
Result<UniqueFd> listen_or_find(const std::string& path);

/// Removes `path` if nobody listens on it, or soon nobody does; for who finds a dead shim's leftovers.
void remove_dead_socket(const std::string& path);

/// For a shim that ends: if nobody is connecting to `listener` just now, closes it and removes its
/// socket file, at once as far as helpers can see. False: somebody came.
bool retire_listener(const std::string& path, int listener, const std::function<void()>& close);

/// The whole action; stdout gets the reply. Returns the exit code.
int start(const Flags& flags);

}  // namespace amphora::shim
