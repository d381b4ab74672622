// SPDX-License-Identifier: Apache-2.0
// The `start` action. See bootstrap.h.
#include "shim/bootstrap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "bootstrap.pb.h"
#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/oci/spec.h"
#include "shim/flags.h"
#include "shim/options.h"
#include "shim/spawn.h"
#include "wasm/sha256.h"

namespace amphora::shim {
namespace {

constexpr size_t kMaxInput = 10U << 20;
constexpr int kLogLevelDebug = -4;
constexpr int kDyingTries = 15;
constexpr std::chrono::milliseconds kDyingPause{20};
constexpr std::string_view kUnixScheme = "unix://";

std::string without_scheme(std::string_view address) {
  if (address.starts_with(kUnixScheme)) address.remove_prefix(kUnixScheme.size());
  return std::string(address);
}

std::string default_socket_dir() {
  if (::geteuid() == 0) return "/run/containerd/s";
  const char* const runtime_dir = ::getenv("XDG_RUNTIME_DIR");
  return std::string(runtime_dir != nullptr ? runtime_dir : "/tmp") + "/containerd/s";
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(Errc::kInvalid, "socket path " + path + " is longer than 106 bytes");
  }
  ::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool somebody_listens(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Without blocking: a full backlog (EAGAIN) is a sign of life, too.
  return probe && (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                             sizeof(address)) == 0 ||
                   errno == EAGAIN);
}

/// Whether a socket of a living process is bound there. Of the wrong type, the connection is refused before
/// the other side hears of it: a shim takes a probe that it sees for a client to come.
bool somebody_is_bound(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return !probe ||
         ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
             0 ||
         errno != ECONNREFUSED;
}

Result<UniqueFd> try_listen(const sockaddr_un& address) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "socket");
  // The mode of an unbound socket becomes that of the file: no moment with a wider one.
  if (::fchmod(fd.get(), 0600) != 0) return fail_errno(errno, "set mode of the socket");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, std::string("bind ") + address.sun_path);
  }
  if (::listen(fd.get(), SOMAXCONN) != 0) return fail_errno(errno, "listen");
  return fd;
}

Result<UniqueFd> lock_directory_of(const std::string& path) {
  const std::string dir(path::dir_name(path));
  TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY));
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock " + dir);
  }
  return fd;
}

std::map<std::string, std::string> read_annotations() {
  const auto json = read_file_at(AT_FDCWD, "config.json", 16U << 20);
  if (!json) return {};
  // A broken config.json is Create's to complain about.
  auto annotations = oci::parse_annotations(*json);
  return annotations ? std::move(*annotations) : std::map<std::string, std::string>();
}

Result<std::string> serve_and_get_address(const Flags& flags, const StartInput& input) {
  const std::string path = socket_path(input, flags, group_of(read_annotations(), flags.id));
  TRY(make_directories(std::string(path::dir_name(path)), 0711, 0700));
  TRY_ASSIGN(const UniqueFd listener, listen_or_find(path));
  if (listener) {
    auto spawned = spawn_server(flags, input, path, listener.get());
    if (!spawned) {
      ::unlink(path.c_str());
      return std::unexpected(std::move(spawned).error());
    }
  }
  std::string address = std::string(kUnixScheme) + path;
  TRY(replace_file_at(AT_FDCWD, "address", address));
  return address;
}

}  // namespace

StartInput parse_start_input(const std::string& bytes, const Flags& flags,
                             const char* ttrpc_address_env, ReadConfig read) {
  StartInput input;
  input.debug = flags.debug;
  input.grpc_address = without_scheme(flags.address);
  input.publish_binary = flags.publish_binary;
  input.socket_dir = default_socket_dir();
  if (ttrpc_address_env != nullptr) input.ttrpc_address = without_scheme(ttrpc_address_env);
  proto::BootstrapParams params;
  if (params.ParseFromString(bytes) && !flags.id.empty() && params.instance_id() == flags.id &&
      params.namespace_() == flags.name_space) {
    input.wants_protobuf = true;
    input.debug |= params.log_level() <= kLogLevelDebug;
    if (!params.containerd_grpc_address().empty()) {
      input.grpc_address = without_scheme(params.containerd_grpc_address());
    }
    if (!params.containerd_ttrpc_address().empty()) {
      input.ttrpc_address = without_scheme(params.containerd_ttrpc_address());
    }
    if (!params.containerd_binary().empty()) input.publish_binary = params.containerd_binary();
    if (!params.socket_dir().empty()) input.socket_dir = params.socket_dir();
    for (const auto& extension : params.extensions()) {
      const std::string name = type_name(extension.value().type_url());
      if (name.ends_with(".Options")) input.options = parse_options(extension.value(), read);
    }
    return input;
  }
  if (proto::Any any; any.ParseFromString(bytes)) input.options = parse_options(any, read);
  return input;
}

std::string group_of(const std::map<std::string, std::string>& annotations, const std::string& id) {
  for (const char* const key : {"io.containerd.amphora.v1.group", "io.containerd.runc.v2.group",
                                "io.kubernetes.cri.sandbox-id"}) {
    const auto found = annotations.find(key);
    if (found != annotations.end() && !found->second.empty()) return found->second;
  }
  return id;
}

std::string socket_path(const StartInput& input, const Flags& flags, const std::string& group) {
  // The first word keeps our sockets apart from those of other shims for the same container.
  const std::string key = "amphora/" + input.grpc_address + "/" + flags.name_space + "/" + group;
  return input.socket_dir + "/" + wasm::to_hex(wasm::sha256(key.data(), key.size()));
}

std::string encode_reply(const StartInput& input, const std::string& address) {
  if (!input.wants_protobuf) return address;
  proto::BootstrapResult result;
  result.set_version(3);
  result.set_address(address);
  result.set_protocol("ttrpc");
  return result.SerializeAsString();
}

Result<UniqueFd> listen_or_find(const std::string& path) {
  TRY_ASSIGN(const sockaddr_un address, address_of(path));
  TRY_ASSIGN(const UniqueFd lock, lock_directory_of(path));
  auto listener = try_listen(address);
  if (listener || listener.error().sys_errno() != EADDRINUSE) return listener;
  if (somebody_listens(address)) return UniqueFd();
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + path);
  return try_listen(address);
}

void remove_dead_socket(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return;
  // A server that was killed lets go of its connections and of this socket one after the other, and a child that has
  // not executed its program has both: on a busy machine we come between. One that lives costs us the wait, no more.
  for (int tries = 0; tries < kDyingTries && ::access(path.c_str(), F_OK) == 0; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(kDyingPause);
    const auto lock = lock_directory_of(path);
    if (!lock) return;
    if (!somebody_is_bound(*address)) {
      ::unlink(path.c_str());
      return;
    }
  }
}

bool retire_listener(const std::string& path, int listener, const std::function<void()>& close) {
  // The lock keeps helpers from finding the socket alive while it dies. Whoever holds it died with
  // it or is quick; without a directory there is nothing to race for.
  const auto lock = lock_directory_of(path);
  pollfd backlog{.fd = listener, .events = POLLIN, .revents = 0};
  if (::poll(&backlog, 1, 0) > 0) return false;
  close();
  ::unlink(path.c_str());
  return true;
}

int start(const Flags& flags) {
  const auto bytes = read_all(STDIN_FILENO, kMaxInput);
  const StartInput input =
      parse_start_input(bytes.value_or(std::string()), flags, ::getenv("TTRPC_ADDRESS"));
  const auto address = serve_and_get_address(flags, input);
  if (!address) {
    ::fprintf(stderr, "start shim for %s: %s\n", flags.id.c_str(), address.error().what().c_str());
    return 1;
  }
  const auto written = write_all(STDOUT_FILENO, encode_reply(input, *address));
  return written ? 0 : 1;
}

}  // namespace amphora::shim
