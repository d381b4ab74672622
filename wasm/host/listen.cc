// SPDX-License-Identifier: Apache-2.0
// See listen.h.
#include "wasm/host/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <system_error>
#include <vector>

namespace amphora::wasm {
namespace {

constexpr std::string_view kAddress = "WASMTIME_HTTP_PROXY_SOCKET_ADDR=";
/// runwasi documents the first and reads the second.
constexpr std::string_view kBacklogs[] = {"WASMTIME_HTTP_PROXY_BACKLOG=", "WASMTIME_HTTP_BACKLOG="};
constexpr int kMaxBacklog = 65535;

bool parse_number(std::string_view text, int largest, int* out) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out > 0 && *out <= largest;
}

/// The value if the entry is of that variable (its name with "="), else null.
const char* value_of(const char* entry, std::string_view variable) noexcept {
  return std::string_view(entry).starts_with(variable) ? entry + variable.size() : nullptr;
}

}  // namespace

bool parse_address(const char* text, ListenAddress* out) noexcept {
  const std::string_view all(text);
  const size_t colon = all.rfind(':');
  int port = 0;
  if (colon == std::string_view::npos || !parse_number(all.substr(colon + 1), 65535, &port)) {
    return false;
  }
  std::string_view host = all.substr(0, colon);
  const bool six = host.starts_with('[') && host.ends_with(']');
  if (six) host = host.substr(1, host.size() - 2);
  char name[INET6_ADDRSTRLEN];
  if (host.size() >= sizeof name) return false;
  std::memcpy(name, host.data(), host.size());
  name[host.size()] = '\0';
  *out = ListenAddress{};
  if (six) {
    auto* const address = reinterpret_cast<struct sockaddr_in6*>(&out->address);
    address->sin6_family = AF_INET6;
    address->sin6_port = htons(static_cast<uint16_t>(port));
    out->size = sizeof *address;
    return ::inet_pton(AF_INET6, name, &address->sin6_addr) == 1;
  }
  auto* const address = reinterpret_cast<struct sockaddr_in*>(&out->address);
  address->sin_family = AF_INET;
  address->sin_port = htons(static_cast<uint16_t>(port));
  out->size = sizeof *address;
  return ::inet_pton(AF_INET, name, &address->sin_addr) == 1;
}

bool take_settings(std::vector<const char*>* env, ListenSettings* out, char* text,
                   size_t capacity) {
  int backlog = 0;
  for (const char* const entry : *env) {
    if (entry == nullptr) break;
    if (const char* const address = value_of(entry, kAddress)) out->address = address;
    for (const std::string_view variable : kBacklogs) {
      const char* const value = value_of(entry, variable);
      if (value == nullptr) continue;
      int one = 0;
      if (!parse_number(value, kMaxBacklog, &one) || (backlog != 0 && one != backlog)) {
        std::snprintf(text, capacity, "%.*s\"%.40s\" is not %s", static_cast<int>(variable.size()),
                      variable.data(), value,
                      one > 0 && backlog != 0 ? "what the other spelling of it says"
                                              : "a number from 1 to 65535");
        return false;
      }
      backlog = one;
    }
  }
  if (backlog != 0) out->backlog = backlog;
  const auto ours = [](const char* entry) {
    return entry != nullptr &&
           (value_of(entry, kAddress) != nullptr || value_of(entry, kBacklogs[0]) != nullptr ||
            value_of(entry, kBacklogs[1]) != nullptr);
  };
  env->erase(std::remove_if(env->begin(), env->end(), ours), env->end());
  return true;
}

int open_listener(const ListenSettings& settings, char* text, size_t capacity) noexcept {
  const char* const where = settings.address.c_str();
  ListenAddress address;
  if (!parse_address(where, &address)) {
    std::snprintf(text, capacity,
                  "listen on \"%.80s\": not ADDRESS:PORT, as 0.0.0.0:8080 or [::]:8080 "
                  "(WASMTIME_HTTP_PROXY_SOCKET_ADDR or amphora.dev/engine.http-listen)",
                  where);
    return -1;
  }
  const int fd = ::socket(address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const char* call = "socket";
  bool made = fd >= 0;
  const int on = 1;
  // A server that was ended leaves connections behind that would keep its address for minutes.
  if (made) {
    call = "set SO_REUSEADDR";
    made = ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
  }
  if (made) {
    call = "bind";
    made =
        ::bind(fd, reinterpret_cast<const struct sockaddr*>(&address.address), address.size) == 0;
  }
  if (made) {
    call = "listen";
    made = ::listen(fd, settings.backlog) == 0;
  }
  if (made) return fd;
  std::snprintf(text, capacity, "listen on %s: %s: %s", where, call, std::strerror(errno));
  if (fd >= 0) ::close(fd);
  return -1;
}

}  // namespace amphora::wasm
