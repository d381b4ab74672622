// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: the first byte chooses a message of the sandbox service, the rest is its bytes as a
// peer sent them. What a pod asks of its sandbox must become a spec that the parser of specs takes, or
// refuses with an error, and a resolv.conf of one line a server.
#include <algorithm>

#include "common.pb.h"
#include "executor/oci/sandbox_spec.h"
#include "sandbox.pb.h"
#include "shim/sandbox_config.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;
namespace pb = amphora::proto;

/// Decodes and checks the round trip; false when the bytes are no such message.
template <class Message>
bool decode(const std::string& bytes, Message& message) {
  if (!message.ParseFromString(bytes)) return false;
  Message again;
  AMPHORA_CHECK(again.ParseFromString(message.SerializeAsString()));
  AMPHORA_CHECK(again.ByteSizeLong() == message.ByteSizeLong());
  return true;
}

void become_a_spec(const shim::SandboxConfig& config, size_t size) {
  for (const bool may_lower : {false, true}) {
    const auto sandbox = shim::sandbox_spec(config, "/proc/self/fd/9", may_lower);
    const auto spec = oci::parse_spec(oci::sandbox_spec_json(sandbox));
    fuzz::check_error(spec, 4 * size + 4096);
    if (!spec) continue;
    AMPHORA_CHECK(spec->process && spec->process->args.front() == shim::kPauseProgram);
    AMPHORA_CHECK(spec->linux_.namespaces.size() == sandbox.namespaces.size());
    // The holder of a pod's namespaces has no rights, whatever the pod asks for.
    AMPHORA_CHECK(spec->process->no_new_privileges);
    const auto& capabilities = spec->process->capabilities;
    AMPHORA_CHECK(!capabilities || capabilities->effective.empty());
  }
}

void create(const std::string& bytes) {
  pb::CreateSandboxRequest request;
  if (!decode(bytes, request)) return;
  const auto config = shim::parse_sandbox_config(request);
  fuzz::check_error(config, bytes.size());
  if (!config) return;
  become_a_spec(*config, bytes.size());
  const std::string text = shim::resolv_conf(*config);
  AMPHORA_CHECK(text.size() <= 16 * bytes.size() + 64);
}

/// The pod's configuration alone: what CRI's own fields can do.
void pod(const std::string& bytes) {
  pb::CreateSandboxRequest request;
  request.set_sandbox_id("pod");
  request.mutable_options()->set_type_url("runtime.v1.PodSandboxConfig");
  request.mutable_options()->set_value(bytes);
  create(request.SerializeAsString());
}

template <class Message>
void plain(const std::string& bytes) {
  Message message;
  decode(bytes, message);
}

constexpr void (*kMessages[])(const std::string&) = {
    create,
    pod,
    plain<pb::SandboxRequest>,
    plain<pb::StopSandboxRequest>,
    plain<pb::SandboxStatusRequest>,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return fuzz::kUninteresting;
  // Digits choose, so that a corpus file can be read.
  kMessages[data[0] % std::size(kMessages)](std::string(fuzz::text_of(data + 1, size - 1)));
  return 0;
}
