// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as LinuxResources, as `update` gets them, down to systemd's properties,
// v1's device lines and the device program of v2, which must be one that the kernel would walk.
#include <linux/bpf.h>

#include "executor/cgroup/convert.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/systemd_properties.h"
#include "executor/oci/spec.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

/// Every jump goes forward, to an instruction; the last one ends the program.
void check_program(const std::vector<bpf_insn>& program) {
  AMPHORA_CHECK(!program.empty() && program.back().code == (BPF_JMP | BPF_EXIT));
  for (size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& i = program[at];
    if (BPF_CLASS(i.code) != BPF_JMP && BPF_CLASS(i.code) != BPF_JMP32) continue;
    if (BPF_OP(i.code) == BPF_EXIT || BPF_OP(i.code) == BPF_CALL) continue;
    AMPHORA_CHECK(i.off >= 0 && at + 1 + static_cast<size_t>(i.off) < program.size());
  }
}

void check_devices(const std::vector<oci::DeviceRule>& rules, size_t size) {
  const auto filter = cgroup::fold_device_rules(rules);
  fuzz::check_error(filter, size);
  if (!filter) return;
  check_program(cgroup::device_program(*filter));
  const auto lines = cgroup::v1_device_lines(*filter);
  fuzz::check_error(lines, size);
  if (lines) {
    AMPHORA_CHECK(!lines->empty() && lines->front().text == "a");
    for (const auto& line : *lines) AMPHORA_CHECK(!line.text.contains('\n'));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto resources = oci::parse_resources(fuzz::text_of(data, size));
  fuzz::check_error(resources, size);
  if (!resources) return 0;
  check_devices(resources->devices, size);
  for (const bool v2 : {true, false}) {
    const cgroup::UnitTarget target{
        .v2 = v2,
        .version = 252,
        .proc_devices = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n"};
    fuzz::check_error(cgroup::limit_properties(*resources, target), size);
    fuzz::check_error(cgroup::device_properties(resources->devices, target), size);
  }
  return 0;
}
