// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as config.json, process, resources, annotations and state. Beyond not
// crashing, what is accepted must hold what the parser promises, and a state must survive a round
// trip.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "executor/oci/spec.h"
#include "executor/oci/state.h"

namespace {

using namespace amphora;

void check_process(const oci::Process& process) {
  AMPHORA_CHECK(!process.args.empty());
  AMPHORA_CHECK(process.cwd.starts_with('/'));
  AMPHORA_CHECK(process.user.uid != UINT32_MAX && process.user.gid != UINT32_MAX);
  for (const auto& arg : process.args) AMPHORA_CHECK(!arg.contains('\0'));
  for (const auto& entry : process.env) AMPHORA_CHECK(entry.find('=') + 1 > 1);
}

/// A refusal says where or why, in one class.
template <class T>
void check_error(const Result<T>& result) {
  if (result) return;
  AMPHORA_CHECK(result.error().code() != Errc::kInternal);
  AMPHORA_CHECK(!result.error().what().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // SAFETY: bytes seen as characters.
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto spec = oci::parse_spec(json);
  check_error(spec);
  if (spec) {
    AMPHORA_CHECK(!spec->root.path.empty());
    if (spec->process) check_process(*spec->process);
    AMPHORA_CHECK(oci::parse_annotations(json).has_value());
  }
  const auto process = oci::parse_process(json);
  check_error(process);
  if (process) check_process(*process);
  check_error(oci::parse_resources(json));
  const auto state = oci::parse_state(json);
  check_error(state);
  if (state) {
    const auto text = oci::to_json(*state);
    const auto again = oci::parse_state(text);
    AMPHORA_CHECK(again && oci::to_json(*again) == text);
  }
  return 0;
}
