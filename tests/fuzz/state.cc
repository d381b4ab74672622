// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as state.json. What is accepted must survive being written and read
// again, and every report made of it must be JSON.
#include "executor/oci/state.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/support.h"

using namespace amphora;

namespace {

/// Paths and reasons may hold any bytes, and what is written must be read by others.
void check_raw(std::string_view bytes) {
  oci::State state;
  state.id = "web";
  state.bundle = state.reason = bytes;
  state.annotations[std::string(bytes)] = bytes;
  const std::string text = oci::to_json(state);
  AMPHORA_CHECK(nlohmann::json::accept(text));
  const auto again = oci::parse_state(text);
  // A NUL is refused when read; what was replaced stays as it is from then on.
  AMPHORA_CHECK(again || bytes.contains('\0'));
  if (!again) return;
  const auto third = oci::parse_state(oci::to_json(*again));
  AMPHORA_CHECK(third && oci::to_json(*third) == oci::to_json(*again));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json = fuzz::text_of(data, size);
  fuzz::check_error(oci::check_id(json.substr(0, json.find('\n'))), size);
  check_raw(json);
  const auto state = oci::parse_state(json);
  fuzz::check_error(state, size);
  if (!state) return 0;
  AMPHORA_CHECK(state->version == 1 && state->pid >= 0);
  const std::string text = oci::to_json(*state);
  const auto again = oci::parse_state(text);
  AMPHORA_CHECK(again && oci::to_json(*again) == text);
  for (const auto status : {oci::Status::kCreating, oci::Status::kPaused, oci::Status::kStopped}) {
    AMPHORA_CHECK(nlohmann::json::accept(oci::hook_state_json(*state, status, state->pid)));
    AMPHORA_CHECK(
        nlohmann::json::accept(oci::seccomp_state_json(*state, status, 1, state->reason)));
    const auto report = nlohmann::json::parse(oci::state_report_json(*state, status));
    AMPHORA_CHECK(report["id"] == state->id);
    AMPHORA_CHECK(report.value("annotations", nlohmann::json::object()).size() ==
                  state->annotations.size());
  }
  return 0;
}
