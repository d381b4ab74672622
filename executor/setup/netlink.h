// SPDX-License-Identifier: Apache-2.0
// A route netlink socket: just the requests that moving a network device takes (linux.netDevices),
// each sent and acknowledged by itself. Own code of some hundred lines in place of a library
// (docs/decisions/0016-own-netlink-sender.md). Not here: which devices go where (netdevices.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::setup {

/// An address of a device, as it can be given to another one.
struct LinkAddress {
  uint8_t family = 0, prefix = 0, scope = 0;
  std::string local, peer, broadcast;  ///< 4 or 16 bytes; peer and broadcast may be empty
};

class Netlink {
 public:
  /// In the network namespace that the calling thread is in; stays there.
  static Result<Netlink> open();

  /// kNotFound (ENODEV) when there is no such device.
  Result<int> index_of(const std::string& name);
  /// Addresses of global scope that do not expire.
  Result<std::vector<LinkAddress>> addresses_of(int index);
  /// Moves a device into a network namespace, there named `name`.
  Result<void> move(int index, int namespace_fd, const std::string& name);
  Result<void> add_address(int index, const LinkAddress& address);
  Result<void> set_up(int index);

 private:
  explicit Netlink(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> acknowledged(std::string& request);
  Result<std::vector<std::string>> dump(std::string& request);
  Result<void> send(std::string& request);
  Result<std::string> receive();

  UniqueFd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace amphora::setup
