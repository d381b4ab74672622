// SPDX-License-Identifier: Apache-2.0
// Moving network devices. See netdevices.h.
#include "executor/setup/netdevices.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

#include <expected>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"
#include "executor/setup/netlink.h"

namespace amphora::setup {
namespace {

struct Device {
  std::string name, new_name;
  int index = 0;
  std::vector<LinkAddress> addresses;
};

/// A socket in another network namespace. Only this thread goes there, and comes back at once.
Result<Netlink> open_inside(int namespace_fd, int own_namespace_fd) {
  if (::setns(namespace_fd, CLONE_NEWNET) != 0) {
    return fail_errno(errno, "enter the container's network namespace");
  }
  auto inside = Netlink::open();
  AMPHORA_CHECK(::setns(own_namespace_fd, CLONE_NEWNET) == 0);
  return inside;
}

template <class T>
Result<T> named(Result<T>&& result, const char* what, const Device& device) {
  if (result) return std::move(result);
  return std::unexpected(
      std::move(result).error().context(std::string(what) + " network device " + device.name));
}

Result<Device> look_up(Netlink& host, const std::string& name, const oci::NetDevice& wanted) {
  Device device;
  device.name = name;
  device.new_name = wanted.name.empty() ? name : wanted.name;
  TRY_ASSIGN(device.index, named(host.index_of(name), "find", device));
  TRY_ASSIGN(device.addresses,
             named(host.addresses_of(device.index), "read the addresses of", device));
  return device;
}

Result<void> move_one(Netlink& host, Netlink& inside, int namespace_fd, const Device& device) {
  TRY(named(host.move(device.index, namespace_fd, device.new_name), "move", device));
  TRY_ASSIGN(const int index, named(inside.index_of(device.new_name), "find the moved", device));
  for (const LinkAddress& address : device.addresses) {
    TRY(named(inside.add_address(index, address), "give its address to", device));
  }
  return named(inside.set_up(index), "bring up", device);
}

/// Those that have gone already come back, as they were: name, addresses, up.
void bring_back(Netlink& host, Netlink& inside, int own_namespace_fd,
                const std::vector<Device>& devices) {
  for (const Device& device : devices) {
    if (host.index_of(device.name)) continue;
    const auto index = inside.index_of(device.new_name);
    if (!index || !inside.move(*index, own_namespace_fd, device.name)) continue;
    const auto back = host.index_of(device.name);
    if (!back) continue;
    for (const LinkAddress& address : device.addresses) {
      static_cast<void>(host.add_address(*back, address));
    }
    static_cast<void>(host.set_up(*back));
  }
}

}  // namespace

Result<void> move_net_devices(const std::map<std::string, oci::NetDevice>& devices, int proc_fd,
                              pid_t pid) {
  TRY_ASSIGN(Netlink host, Netlink::open());
  // All are found before the first one moves.
  std::vector<Device> found;
  for (const auto& [name, wanted] : devices) {
    TRY_ASSIGN(Device device, look_up(host, name, wanted));
    found.push_back(std::move(device));
  }
  TRY_ASSIGN(const UniqueFd theirs, open_at(proc_fd, std::to_string(pid) + "/ns/net", O_RDONLY));
  TRY_ASSIGN(const UniqueFd ours, open_at(proc_fd, "thread-self/ns/net", O_RDONLY));
  TRY_ASSIGN(Netlink inside, open_inside(theirs.get(), ours.get()));
  for (const Device& device : found) {
    auto moved = move_one(host, inside, theirs.get(), device);
    if (moved) continue;
    bring_back(host, inside, ours.get(), found);
    return moved;
  }
  return {};
}

}  // namespace amphora::setup
