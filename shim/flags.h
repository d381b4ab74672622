// SPDX-License-Identifier: Apache-2.0
// The command line of a containerd shim, in Go's flag syntax: one or two dashes, "-k v" or "-k=v",
// parsing ends at the first other word, which is the action. Parsing fills a struct and does nothing.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace amphora::shim {

struct Flags {
  std::string name_space;      ///< -namespace
  std::string id;              ///< -id
  std::string address;         ///< -address: containerd's gRPC socket
  std::string publish_binary;  ///< -publish-binary: containerd itself
  std::string bundle;          ///< -bundle
  std::string
      ttrpc_address;   ///< -ttrpc-address, between our own processes: containerd's events socket
  std::string socket;  ///< -socket, between our own processes: what `serve` listens on
  std::string
      engine;  ///< -engine, between our own processes: the wasm engine where no annotation names one
  std::string action;  ///< start, delete or serve; empty if none
  bool debug = false;
  bool version = false;
  bool info = false;
};

/// Flags that later versions of containerd may add are skipped, with their value if they have one.
Flags parse_flags(std::span<const char* const> words);

/// The engine that the program's own name asks for: "/usr/bin/containerd-shim-wamr-v1" is "wamr", as
/// io.containerd.wamr.v1 makes containerd look for it. Empty for our own name and any other.
std::string engine_of_name(std::string_view program);

}  // namespace amphora::shim
