// SPDX-License-Identifier: Apache-2.0
// Requests and answers of rtnetlink(7). See netlink.h.
#include "executor/setup/netlink.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::setup {
namespace {

constexpr size_t kAnswerMax = 1 << 16;

template <class T>
void append(std::string& to, const T& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class Body>
std::string request_of(uint16_t type, uint16_t flags, const Body& body) {
  struct nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  std::string request;
  append(request, header);
  append(request, body);
  return request;
}

void add_attribute(std::string& request, uint16_t type, std::string_view value) {
  struct rtattr attribute{};
  attribute.rta_len = static_cast<uint16_t>(sizeof attribute + value.size());
  attribute.rta_type = type;
  append(request, attribute);
  request.append(value);
  request.resize(NLMSG_ALIGN(request.size()));
}

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// The messages in one datagram, each with its header; what is cut short ends the list.
template <class Visit>
void each_message(std::string_view data, Visit visit) {
  while (data.size() >= sizeof(struct nlmsghdr)) {
    struct nlmsghdr header{};
    std::memcpy(&header, data.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > data.size()) return;
    visit(header, data.substr(sizeof header, header.nlmsg_len - sizeof header));
    data.remove_prefix(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), data.size()));
  }
}

template <class Visit>
void each_attribute(std::string_view data, Visit visit) {
  while (data.size() >= sizeof(struct rtattr)) {
    struct rtattr attribute{};
    std::memcpy(&attribute, data.data(), sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > data.size()) return;
    visit(attribute.rta_type, data.substr(sizeof attribute, attribute.rta_len - sizeof attribute));
    data.remove_prefix(std::min<size_t>(RTA_ALIGN(attribute.rta_len), data.size()));
  }
}

struct ifinfomsg link_of(int index) {
  struct ifinfomsg link{};
  link.ifi_family = AF_UNSPEC;
  link.ifi_index = index;
  return link;
}

}  // namespace

Result<Netlink> Netlink::open() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return fail_errno(errno, "open a route netlink socket");
  // Then a dump of addresses answers for the device asked for alone (4.20).
  const int on = 1;
  ::setsockopt(socket.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  return Netlink(std::move(socket));
}

Result<void> Netlink::send(std::string& request) {
  struct nlmsghdr header{};
  std::memcpy(&header, request.data(), sizeof header);
  header.nlmsg_len = static_cast<uint32_t>(request.size());
  header.nlmsg_seq = ++sequence_;
  std::memcpy(request.data(), &header, sizeof header);
  const ssize_t n = ::send(socket_.get(), request.data(), request.size(), 0);
  if (n != static_cast<ssize_t>(request.size())) return fail_errno(errno, "send to route netlink");
  return {};
}

Result<std::string> Netlink::receive() {
  std::string answer(kAnswerMax, '\0');
  ssize_t n = 0;
  do {
    n = ::recv(socket_.get(), answer.data(), answer.size(), 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return fail_errno(errno, "read from route netlink");
  answer.resize(static_cast<size_t>(n));
  return answer;
}

Result<void> Netlink::acknowledged(std::string& request) {
  TRY(send(request));
  for (;;) {
    TRY_ASSIGN(const std::string answer, receive());
    int err = 1;
    each_message(answer, [&](const struct nlmsghdr& header, std::string_view body) {
      struct nlmsgerr error{};
      if (header.nlmsg_seq != sequence_ || header.nlmsg_type != NLMSG_ERROR ||
          body.size() < sizeof error) {
        return;
      }
      std::memcpy(&error, body.data(), sizeof error);
      err = error.error;
    });
    if (err == 0) return {};
    if (err < 0) return fail_errno(-err, "route netlink");
  }
}

/// The bodies of all answers to a request; the kernel's errno when it refuses.
Result<std::vector<std::string>> Netlink::dump(std::string& request) {
  TRY(send(request));
  std::vector<std::string> bodies;
  for (;;) {
    TRY_ASSIGN(const std::string answer, receive());
    bool done = false;
    int err = 0;
    each_message(answer, [&](const struct nlmsghdr& header, std::string_view body) {
      if (header.nlmsg_seq != sequence_) return;
      if (header.nlmsg_type == NLMSG_ERROR && body.size() >= sizeof(struct nlmsgerr)) {
        struct nlmsgerr error{};
        std::memcpy(&error, body.data(), sizeof error);
        err = error.error;
        done = true;
      } else if (header.nlmsg_type == NLMSG_DONE) {
        done = true;
      } else {
        bodies.emplace_back(body);
      }
    });
    if (err < 0) return fail_errno(-err, "route netlink");
    if (done) return bodies;
  }
}

Result<int> Netlink::index_of(const std::string& name) {
  std::string request = request_of(RTM_GETLINK, NLM_F_ACK, link_of(0));
  add_attribute(request, IFLA_IFNAME, {name.c_str(), name.size() + 1});
  TRY_ASSIGN(const std::vector<std::string> links, dump(request));
  if (links.empty() || links[0].size() < sizeof(struct ifinfomsg)) {
    return fail_errno(ENODEV, "route netlink");
  }
  struct ifinfomsg link{};
  std::memcpy(&link, links[0].data(), sizeof link);
  return link.ifi_index;
}

Result<std::vector<LinkAddress>> Netlink::addresses_of(int index) {
  struct ifaddrmsg wanted{};
  wanted.ifa_index = static_cast<uint32_t>(index);
  std::string request = request_of(RTM_GETADDR, NLM_F_DUMP, wanted);
  TRY_ASSIGN(const std::vector<std::string> answers, dump(request));
  std::vector<LinkAddress> addresses;
  for (const std::string& answer : answers) {
    struct ifaddrmsg found{};
    if (answer.size() < sizeof found) continue;
    std::memcpy(&found, answer.data(), sizeof found);
    if (found.ifa_index != wanted.ifa_index || found.ifa_scope != RT_SCOPE_UNIVERSE) continue;
    LinkAddress address{found.ifa_family, found.ifa_prefixlen, found.ifa_scope, {}, {}, {}};
    uint32_t flags = found.ifa_flags;
    each_attribute(std::string_view(answer).substr(sizeof found),
                   [&](uint16_t type, std::string_view value) {
                     if (type == IFA_LOCAL) address.local = value;
                     if (type == IFA_ADDRESS) address.peer = value;
                     if (type == IFA_BROADCAST) address.broadcast = value;
                     if (type == IFA_FLAGS && value.size() == sizeof flags) {
                       std::memcpy(&flags, value.data(), sizeof flags);
                     }
                   });
    if ((flags & IFA_F_PERMANENT) == 0) continue;
    if (address.local.empty()) address.local = address.peer;  // IPv6 without a peer
    addresses.push_back(std::move(address));
  }
  return addresses;
}

Result<void> Netlink::move(int index, int namespace_fd, const std::string& name) {
  std::string request = request_of(RTM_SETLINK, NLM_F_ACK, link_of(index));
  add_attribute(request, IFLA_NET_NS_FD, bytes_of(namespace_fd));
  add_attribute(request, IFLA_IFNAME, {name.c_str(), name.size() + 1});
  return acknowledged(request);
}

Result<void> Netlink::add_address(int index, const LinkAddress& address) {
  struct ifaddrmsg body{};
  body.ifa_family = address.family;
  body.ifa_prefixlen = address.prefix;
  body.ifa_scope = address.scope;
  body.ifa_index = static_cast<uint32_t>(index);
  std::string request = request_of(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body);
  add_attribute(request, IFA_LOCAL, address.local);
  add_attribute(request, IFA_ADDRESS, address.peer.empty() ? address.local : address.peer);
  if (!address.broadcast.empty()) add_attribute(request, IFA_BROADCAST, address.broadcast);
  // Its uniqueness was known before the move (RFC 4862); checking again would delay its use.
  if (address.family == AF_INET6) {
    const uint32_t flags = IFA_F_NODAD;
    add_attribute(request, IFA_FLAGS, bytes_of(flags));
  }
  auto added = acknowledged(request);
  if (!added && added.error().sys_errno() == EEXIST) return {};
  return added;
}

Result<void> Netlink::set_up(int index) {
  struct ifinfomsg link = link_of(index);
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  std::string request = request_of(RTM_NEWLINK, NLM_F_ACK, link);
  return acknowledged(request);
}

}  // namespace amphora::setup
