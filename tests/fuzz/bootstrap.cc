// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: what containerd writes to the stdin of `start`. Anything must become an input that
// a shim can be started from: a socket path of a known form, a reply that its form of peer reads.
#include "shim/bootstrap.h"

#include "bootstrap.pb.h"
#include "tests/fuzz/support.h"

using namespace amphora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(fuzz::text_of(data, size));
  shim::Flags flags;
  flags.id = "web";
  flags.name_space = "default";
  flags.address = "unix:///run/containerd/containerd.sock";
  const auto input =
      shim::parse_start_input(bytes, flags, "unix:///run/t.ttrpc", fuzz::name_as_text);
  AMPHORA_CHECK(!input.socket_dir.empty());
  AMPHORA_CHECK(input.options.notes.size() <= size + 1);  // one a key of a table
  const std::string path = shim::socket_path(input, flags, shim::group_of({}, flags.id));
  AMPHORA_CHECK(path.size() == input.socket_dir.size() + 1 + 64);
  const std::string reply = shim::encode_reply(input, "unix://" + path);
  if (input.wants_protobuf) {
    proto::BootstrapResult result;
    AMPHORA_CHECK(result.ParseFromString(reply) && result.address() == "unix://" + path);
  } else {
    AMPHORA_CHECK(reply == "unix://" + path);
    AMPHORA_CHECK(input.grpc_address == "/run/containerd/containerd.sock");
    AMPHORA_CHECK(input.ttrpc_address == "/run/t.ttrpc");
  }
  return 0;
}
