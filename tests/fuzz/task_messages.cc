// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: the first byte chooses a message of the task service, the rest is its bytes as a
// peer sent them. What decodes must encode to something that decodes the same, and the parts that the
// shim reads on (options, mounts, process, resources, logger addresses) must hold against them too.
#include "common.pb.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "shim/logger.h"
#include "shim/options.h"
#include "shim/rootfs.h"
#include "task.pb.h"
#include "tests/fuzz/support.h"
#include "ttrpc.pb.h"

namespace {

using namespace amphora;
namespace pb = amphora::proto;

/// Decodes and checks the round trip; false when the bytes are no such message.
template <class Message>
bool decode(const std::string& bytes, Message& message) {
  if (!message.ParseFromString(bytes)) return false;
  const std::string once = message.SerializeAsString();
  Message again;
  AMPHORA_CHECK(again.ParseFromString(once));
  AMPHORA_CHECK(again.ByteSizeLong() == message.ByteSizeLong());
  return true;
}

void create(const std::string& bytes) {
  pb::CreateTaskRequest request;
  if (!decode(bytes, request)) return;
  static_cast<void>(oci::check_id(request.id()));
  const auto options = shim::parse_options(request.options(), fuzz::name_as_text);
  AMPHORA_CHECK(options.notes.size() <= bytes.size() + 1);  // one a key of a table
  for (const auto& mount : request.rootfs()) {
    const auto parsed = shim::parse_mount_options({mount.options().begin(), mount.options().end()});
    fuzz::check_error(parsed, bytes.size());
    if (parsed) AMPHORA_CHECK(parsed->data.size() <= bytes.size());
  }
  const auto words = shim::logger_words(request.stdout());
  fuzz::check_error(words, bytes.size());
  if (words) AMPHORA_CHECK(!words->empty() && words->front().starts_with('/'));
}

void exec(const std::string& bytes) {
  pb::ExecProcessRequest request;
  if (!decode(bytes, request)) return;
  fuzz::check_error(oci::parse_process(request.spec().value()), bytes.size());
}

void update(const std::string& bytes) {
  pb::UpdateTaskRequest request;
  if (!decode(bytes, request)) return;
  fuzz::check_error(oci::parse_resources(request.resources().value()), bytes.size());
}

void checkpoint(const std::string& bytes) {
  pb::CheckpointTaskRequest request;
  if (!decode(bytes, request)) return;
  std::vector<std::string> notes;
  const auto options = shim::parse_checkpoint_options(request.options(), request.path(), notes);
  fuzz::check_error(options, bytes.size());
  AMPHORA_CHECK(notes.size() <= 1);
  if (options) AMPHORA_CHECK(options->image_path.starts_with('/'));
}

template <class Message>
void plain(const std::string& bytes) {
  Message message;
  decode(bytes, message);
}

constexpr void (*kMessages[])(const std::string&) = {
    create,
    exec,
    update,
    plain<pb::RpcRequest>,
    plain<pb::RpcResponse>,
    plain<pb::ProcessRequest>,
    plain<pb::TaskRequest>,
    plain<pb::KillRequest>,
    plain<pb::ResizePtyRequest>,
    plain<pb::CloseIORequest>,
    checkpoint,
    plain<pb::ShutdownRequest>,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return fuzz::kUninteresting;
  // Letters and digits choose, so that a corpus file can be read.
  const std::string bytes(fuzz::text_of(data + 1, size - 1));
  kMessages[data[0] % std::size(kMessages)](bytes);
  return 0;
}
