// SPDX-License-Identifier: Apache-2.0
// Parsing of what cgroup files say, text in, numbers out. Pure and forgiving: a line in a form that
// no known kernel writes is skipped, as stats must never fail a call.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "executor/cgroup/cgroup.h"

namespace amphora::cgroup {

/// "key value" lines.
std::map<std::string, uint64_t> parse_flat_keyed(std::string_view text);
/// Numbers separated by blanks (cpuacct.usage_percpu).
std::vector<uint64_t> parse_numbers(std::string_view text);
/// "8:0 Read 4096" and "8:0 4096" lines of blkio files; the "Total" of all devices is left out.
std::vector<IoEntry> parse_blkio(std::string_view text);
/// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." lines of io.stat, spread over service_bytes (rbytes,
/// wbytes) and serviced (rios, wios).
IoStats parse_io_stat(std::string_view text);
/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ...".
Pressure parse_pressure(std::string_view text);
/// "mlx4_0 hca_handle=2 hca_object=2000" lines; "max" is UINT32_MAX.
std::vector<RdmaEntry> parse_rdma(std::string_view text);
OomEvents parse_memory_events(std::string_view text);

/// "0-2,5" one by one; what is no such list gives what was read of it.
std::vector<uint16_t> parse_list(std::string_view text);

}  // namespace amphora::cgroup
