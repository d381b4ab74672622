// SPDX-License-Identifier: Apache-2.0
// The listening socket of a guest that serves HTTP: where it is to be, in the container's words, and the
// socket itself, made in the container's network namespace with the payload's rights. Who asks for it is
// the engine, when it has found the guest to be a server.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <string>
#include <vector>

namespace amphora::wasm {

struct ListenAddress {
  struct sockaddr_storage address{};
  socklen_t size = 0;
};

/// "127.0.0.1:8080" or "[::1]:8080"; no names, and not port 0, which nobody could find.
bool parse_address(const char* text, ListenAddress* out) noexcept;

/// Where and how, from the environment's variables, which are those that runwasi's users set. What they
/// say is overridden by `listen` and `backlog` where these are given.
struct ListenSettings {
  std::string address = "0.0.0.0:8080";
  int backlog = 100;
};

/// Takes the variables out of `env` (which ends with a null). False with one line of text.
bool take_settings(std::vector<const char*>* env, ListenSettings* out, char* text, size_t capacity);

/// The socket, or -1 with one line of text.
int open_listener(const ListenSettings& settings, char* text, size_t capacity) noexcept;

}  // namespace amphora::wasm
