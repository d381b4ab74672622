// SPDX-License-Identifier: Apache-2.0
// amphora update: new limits for a container.
#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/intel_rdt.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/update_resources.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

constexpr Option kOptions[] = {
    option<&UpdateLine::resources>("resources", 'r',
                                   "path to the file containing the resources to update or '-' to "
                                   "read from the standard input"),
    option<&UpdateLine::blkio_weight>("blkio-weight", 0,
                                      "per cgroup weight, range is from 10 to 1000"),
    option<&UpdateLine::cpu_period>("cpu-period", 0, "CPU CFS period (in usecs)"),
    option<&UpdateLine::cpu_quota>("cpu-quota", 0,
                                   "CPU CFS limit (in usecs): allowed time in a given period"),
    option<&UpdateLine::cpu_burst>("cpu-burst", 0, "CPU CFS burst limit (in usecs)"),
    option<&UpdateLine::cpu_share>("cpu-share", 0, "CPU shares (relative weight)"),
    option<&UpdateLine::cpu_rt_period>("cpu-rt-period", 0, "CPU realtime period (in usecs)"),
    option<&UpdateLine::cpu_rt_runtime>("cpu-rt-runtime", 0, "CPU realtime limit (in usecs)"),
    option<&UpdateLine::cpuset_cpus>("cpuset-cpus", 0, "CPU(s) to use"),
    option<&UpdateLine::cpuset_mems>("cpuset-mems", 0, "memory node(s) to use"),
    option<&UpdateLine::kernel_memory>("kernel-memory", 0, nullptr),
    option<&UpdateLine::kernel_memory_tcp>("kernel-memory-tcp", 0, nullptr),
    option<&UpdateLine::memory>("memory", 0, "memory limit (in bytes)"),
    option<&UpdateLine::memory_reservation>("memory-reservation", 0,
                                            "memory reservation or soft limit (in bytes)"),
    option<&UpdateLine::memory_swap>(
        "memory-swap", 0, "total memory usage (memory + swap); '-1' to enable unlimited swap"),
    option<&UpdateLine::cpu_idle>("cpu-idle", 0,
                                  "set cgroup SCHED_IDLE or not, 0: default, 1: idle"),
    option<&UpdateLine::pids_limit>("pids-limit", 0,
                                    "maximum number of pids allowed in the container"),
    option<&UpdateLine::l3_cache_schema>("l3-cache-schema", 0,
                                         "the string of Intel RDT/CAT L3 cache schema"),
    option<&UpdateLine::mem_bw_schema>("mem-bw-schema", 0,
                                       "the string of Intel RDT/MBA memory bandwidth schema"),
};

Result<oci::Resources> wanted(const UpdateLine& line) {
  if (line.resources.empty()) return resources_of(line);
  TRY_ASSIGN(const std::string json, line.resources == "-"
                                         ? read_all(STDIN_FILENO, 4 << 20)
                                         : read_file_at(AT_FDCWD, line.resources, 4 << 20));
  return oci::parse_resources(json);
}

Result<int> update(Context& context, const UpdateLine& line, Arguments arguments) {
  TRY_ASSIGN(const oci::Resources resources, wanted(line));
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  // Not part of linux.resources, so beside --resources too, as with runc.
  const cgroup::RdtChange rdt{line.l3_cache_schema, line.mem_bw_schema};
  TRY_ASSIGN(const std::vector<std::string> ignored, runtime->update(arguments[0], resources, rdt));
  for (const std::string& warning : ignored) context.log().warning(warning);
  return 0;
}

}  // namespace

constinit const Command kUpdateCommand = {
    .name = "update",
    .summary = "update container resource constraints",
    .usage = "<container-id>",
    .description =
        "With --resources the limits are those of a JSON object as linux.resources of a\n"
        "config.json has them, and the other options but the two schemas are ignored. What is\n"
        "not named stays.\n"
        "Sizes take units (64m, 1g). When one limit cannot be set, none is changed.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<UpdateLine, &update>,
};

}  // namespace amphora::cli
