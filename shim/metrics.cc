// SPDX-License-Identifier: Apache-2.0
// Stats -> protobuf. Consumers dereference nested messages unchecked (a hole has crashed
// containerd's Prometheus collector): where cpu or memory is set, all their parts are.
#include "shim/metrics.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cgroups_v1.pb.h"
#include "cgroups_v2.pb.h"
#include "common.pb.h"
#include "executor/cgroup/cgroup.h"

namespace amphora::shim {
namespace {

namespace v1 = ::io::containerd::cgroups::v1;
namespace v2 = ::io::containerd::cgroups::v2;

using StatMap = std::map<std::string, uint64_t>;
uint64_t value_of(const StatMap& stat, const std::string& key) {
  const auto found = stat.find(key);
  return found == stat.end() ? 0 : found->second;
}

template <class Message>
struct StatField {
  const char* key;
  void (Message::*set)(uint64_t);
};

constexpr StatField<v1::MemoryStat> kMemoryV1[] = {
    {"cache", &v1::MemoryStat::set_cache},
    {"rss", &v1::MemoryStat::set_rss},
    {"rss_huge", &v1::MemoryStat::set_rss_huge},
    {"mapped_file", &v1::MemoryStat::set_mapped_file},
    {"dirty", &v1::MemoryStat::set_dirty},
    {"writeback", &v1::MemoryStat::set_writeback},
    {"pgpgin", &v1::MemoryStat::set_pg_pg_in},
    {"pgpgout", &v1::MemoryStat::set_pg_pg_out},
    {"pgfault", &v1::MemoryStat::set_pg_fault},
    {"pgmajfault", &v1::MemoryStat::set_pg_maj_fault},
    {"inactive_anon", &v1::MemoryStat::set_inactive_anon},
    {"active_anon", &v1::MemoryStat::set_active_anon},
    {"inactive_file", &v1::MemoryStat::set_inactive_file},
    {"active_file", &v1::MemoryStat::set_active_file},
    {"unevictable", &v1::MemoryStat::set_unevictable},
    {"hierarchical_memory_limit", &v1::MemoryStat::set_hierarchical_memory_limit},
    {"hierarchical_memsw_limit", &v1::MemoryStat::set_hierarchical_swap_limit},
    {"total_cache", &v1::MemoryStat::set_total_cache},
    {"total_rss", &v1::MemoryStat::set_total_rss},
    {"total_rss_huge", &v1::MemoryStat::set_total_rss_huge},
    {"total_mapped_file", &v1::MemoryStat::set_total_mapped_file},
    {"total_dirty", &v1::MemoryStat::set_total_dirty},
    {"total_writeback", &v1::MemoryStat::set_total_writeback},
    {"total_pgpgin", &v1::MemoryStat::set_total_pg_pg_in},
    {"total_pgpgout", &v1::MemoryStat::set_total_pg_pg_out},
    {"total_pgfault", &v1::MemoryStat::set_total_pg_fault},
    {"total_pgmajfault", &v1::MemoryStat::set_total_pg_maj_fault},
    {"total_inactive_anon", &v1::MemoryStat::set_total_inactive_anon},
    {"total_active_anon", &v1::MemoryStat::set_total_active_anon},
    {"total_inactive_file", &v1::MemoryStat::set_total_inactive_file},
    {"total_active_file", &v1::MemoryStat::set_total_active_file},
    {"total_unevictable", &v1::MemoryStat::set_total_unevictable},
};

constexpr StatField<v2::MemoryStat> kMemoryV2[] = {
    {"anon", &v2::MemoryStat::set_anon},
    {"file", &v2::MemoryStat::set_file},
    {"kernel_stack", &v2::MemoryStat::set_kernel_stack},
    {"slab", &v2::MemoryStat::set_slab},
    {"sock", &v2::MemoryStat::set_sock},
    {"shmem", &v2::MemoryStat::set_shmem},
    {"file_mapped", &v2::MemoryStat::set_file_mapped},
    {"file_dirty", &v2::MemoryStat::set_file_dirty},
    {"file_writeback", &v2::MemoryStat::set_file_writeback},
    {"anon_thp", &v2::MemoryStat::set_anon_thp},
    {"inactive_anon", &v2::MemoryStat::set_inactive_anon},
    {"active_anon", &v2::MemoryStat::set_active_anon},
    {"inactive_file", &v2::MemoryStat::set_inactive_file},
    {"active_file", &v2::MemoryStat::set_active_file},
    {"unevictable", &v2::MemoryStat::set_unevictable},
    {"slab_reclaimable", &v2::MemoryStat::set_slab_reclaimable},
    {"slab_unreclaimable", &v2::MemoryStat::set_slab_unreclaimable},
    {"pgfault", &v2::MemoryStat::set_pgfault},
    {"pgmajfault", &v2::MemoryStat::set_pgmajfault},
    {"workingset_refault", &v2::MemoryStat::set_workingset_refault},
    {"workingset_activate", &v2::MemoryStat::set_workingset_activate},
    {"workingset_refault_anon", &v2::MemoryStat::set_workingset_refault_anon},
    {"workingset_refault_file", &v2::MemoryStat::set_workingset_refault_file},
    {"workingset_activate_anon", &v2::MemoryStat::set_workingset_activate_anon},
    {"workingset_activate_file", &v2::MemoryStat::set_workingset_activate_file},
    {"workingset_nodereclaim", &v2::MemoryStat::set_workingset_nodereclaim},
    {"pgrefill", &v2::MemoryStat::set_pgrefill},
    {"pgscan", &v2::MemoryStat::set_pgscan},
    {"pgsteal", &v2::MemoryStat::set_pgsteal},
    {"pgactivate", &v2::MemoryStat::set_pgactivate},
    {"pgdeactivate", &v2::MemoryStat::set_pgdeactivate},
    {"pglazyfree", &v2::MemoryStat::set_pglazyfree},
    {"pglazyfreed", &v2::MemoryStat::set_pglazyfreed},
    {"thp_fault_alloc", &v2::MemoryStat::set_thp_fault_alloc},
    {"thp_collapse_alloc", &v2::MemoryStat::set_thp_collapse_alloc},
};

void fill(v1::MemoryEntry& out, const cgroup::MemoryEntry& entry) {
  out.set_limit(entry.limit);
  out.set_usage(entry.usage);
  out.set_max(entry.max);
  out.set_failcnt(entry.failcnt);
}

using EntryList = ::google::protobuf::RepeatedPtrField<v1::BlkIOEntry>;
void fill(EntryList& out, const std::vector<cgroup::IoEntry>& entries) {
  for (const auto& entry : entries) {
    auto& message = *out.Add();
    message.set_op(entry.op);
    message.set_major(entry.major);
    message.set_minor(entry.minor);
    message.set_value(entry.value);
  }
}

template <class Metrics>
void fill_rdma(Metrics& out, const cgroup::Stats& stats) {
  const auto add = [](const cgroup::RdmaEntry& from, auto& to) {
    to.set_device(from.device);
    to.set_hca_handles(from.handles);
    to.set_hca_objects(from.objects);
  };
  for (const auto& entry : stats.rdma_current) add(entry, *out.mutable_rdma()->add_current());
  for (const auto& entry : stats.rdma_limit) add(entry, *out.mutable_rdma()->add_limit());
}

void fill_memory(v1::Metrics& out, const cgroup::Stats& stats) {
  if (stats.memory) {
    auto& memory = *out.mutable_memory();
    for (const auto& field : kMemoryV1)
      (memory.*field.set)(value_of(stats.memory->stat, field.key));
    fill(*memory.mutable_usage(), stats.memory->usage);
    fill(*memory.mutable_swap(), stats.memory->swap);
    fill(*memory.mutable_kernel(), stats.memory->kernel);
    fill(*memory.mutable_kernel_tcp(), stats.memory->kernel_tcp);
  }
  if (stats.memory || stats.oom) {
    auto& oom = *out.mutable_memory_oom_control();
    oom.set_oom_kill_disable(stats.memory && stats.memory->oom_kill_disable ? 1 : 0);
    oom.set_under_oom(stats.memory && stats.memory->under_oom ? 1 : 0);
    oom.set_oom_kill(stats.oom ? stats.oom->oom_kill : 0);
  }
}

void fill_io(v1::Metrics& out, const cgroup::IoStats& io) {
  auto& blkio = *out.mutable_blkio();
  fill(*blkio.mutable_io_service_bytes_recursive(), io.service_bytes);
  fill(*blkio.mutable_io_serviced_recursive(), io.serviced);
  fill(*blkio.mutable_io_queued_recursive(), io.queued);
  fill(*blkio.mutable_io_service_time_recursive(), io.service_time);
  fill(*blkio.mutable_io_wait_time_recursive(), io.wait_time);
  fill(*blkio.mutable_io_merged_recursive(), io.merged);
  fill(*blkio.mutable_io_time_recursive(), io.time);
  fill(*blkio.mutable_sectors_recursive(), io.sectors);
}

void fill(v1::Metrics& out, const cgroup::Stats& stats) {
  for (const auto& page : stats.hugetlb) {
    auto& message = *out.add_hugetlb();
    message.set_usage(page.usage);
    message.set_max(page.max);
    message.set_failcnt(page.failcnt);
    message.set_pagesize(page.page_size);
  }
  if (stats.pids) {
    out.mutable_pids()->set_current(stats.pids->current);
    // v1's collectors know no "max": runc's shim sends 0 for it.
    out.mutable_pids()->set_limit(stats.pids->limit == UINT64_MAX ? 0 : stats.pids->limit);
  }
  if (stats.cpu) {
    auto& usage = *out.mutable_cpu()->mutable_usage();
    usage.set_total(stats.cpu->usage);
    usage.set_kernel(stats.cpu->system);
    usage.set_user(stats.cpu->user);
    for (const uint64_t cpu : stats.cpu->per_cpu) usage.add_per_cpu(cpu);
    auto& throttling = *out.mutable_cpu()->mutable_throttling();
    throttling.set_periods(stats.cpu->periods);
    throttling.set_throttled_periods(stats.cpu->throttled_periods);
    throttling.set_throttled_time(stats.cpu->throttled_time);
  }
  fill_memory(out, stats);
  if (stats.io) fill_io(out, *stats.io);
  fill_rdma(out, stats);
}

void fill(v2::PSIStats& out, const cgroup::Pressure& pressure) {
  const auto line = [](v2::PSIData& to, const cgroup::PressureLine& from) {
    to.set_avg10(from.avg10);
    to.set_avg60(from.avg60);
    to.set_avg300(from.avg300);
    to.set_total(from.total);
  };
  line(*out.mutable_some(), pressure.some);
  line(*out.mutable_full(), pressure.full);
}

void fill_cpu(v2::CPUStat& out, const cgroup::CpuStats& cpu) {
  out.set_usage_usec(cpu.usage / 1000);
  out.set_user_usec(cpu.user / 1000);
  out.set_system_usec(cpu.system / 1000);
  out.set_nr_periods(cpu.periods);
  out.set_nr_throttled(cpu.throttled_periods);
  out.set_throttled_usec(cpu.throttled_time / 1000);
  out.set_nr_bursts(cpu.bursts);
  out.set_burst_usec(cpu.burst_time / 1000);
}

void fill_memory(v2::Metrics& out, const cgroup::Stats& stats) {
  if (stats.memory) {
    auto& memory = *out.mutable_memory();
    for (const auto& field : kMemoryV2)
      (memory.*field.set)(value_of(stats.memory->stat, field.key));
    memory.set_usage(stats.memory->usage.usage);
    memory.set_usage_limit(stats.memory->usage.limit);
    memory.set_max_usage(stats.memory->usage.max);
    memory.set_swap_usage(stats.memory->swap.usage);
    memory.set_swap_limit(stats.memory->swap.limit);
    memory.set_swap_max_usage(stats.memory->swap.max);
    if (stats.memory_pressure) fill(*memory.mutable_psi(), *stats.memory_pressure);
  }
  if (stats.oom) {
    auto& events = *out.mutable_memory_events();
    events.set_low(stats.oom->low);
    events.set_high(stats.oom->high);
    events.set_max(stats.oom->max);
    events.set_oom(stats.oom->oom);
    events.set_oom_kill(stats.oom->oom_kill);
    events.set_oom_group_kill(stats.oom->oom_group_kill);
  }
}

/// v2 has one line per device with all numbers; the two lists carry it in parts.
void fill_io(v2::IOStat& out, const cgroup::IoStats& io) {
  std::map<std::pair<uint64_t, uint64_t>, v2::IOEntry*> devices;
  const auto take = [&](const cgroup::IoEntry& entry) {
    auto& device = devices[{entry.major, entry.minor}];
    if (device == nullptr) {
      device = out.add_usage();
      device->set_major(entry.major);
      device->set_minor(entry.minor);
    }
    if (entry.op == "rbytes") device->set_rbytes(entry.value);
    if (entry.op == "wbytes") device->set_wbytes(entry.value);
    if (entry.op == "rios") device->set_rios(entry.value);
    if (entry.op == "wios") device->set_wios(entry.value);
  };
  for (const auto& entry : io.service_bytes) take(entry);
  for (const auto& entry : io.serviced) take(entry);
}

void fill(v2::Metrics& out, const cgroup::Stats& stats) {
  if (stats.pids) {
    out.mutable_pids()->set_current(stats.pids->current);
    out.mutable_pids()->set_limit(stats.pids->limit);
  }
  if (stats.cpu) {
    fill_cpu(*out.mutable_cpu(), *stats.cpu);
    if (stats.cpu_pressure) fill(*out.mutable_cpu()->mutable_psi(), *stats.cpu_pressure);
  }
  fill_memory(out, stats);
  if (stats.io) {
    fill_io(*out.mutable_io(), *stats.io);
    if (stats.io_pressure) fill(*out.mutable_io()->mutable_psi(), *stats.io_pressure);
  }
  for (const auto& page : stats.hugetlb) {
    auto& message = *out.add_hugetlb();
    message.set_current(page.usage);
    message.set_max(page.max);
    message.set_failcnt(page.failcnt);
    message.set_pagesize(page.page_size);
  }
  fill_rdma(out, stats);
}

template <class Metrics>
void encode(const cgroup::Stats& stats, proto::Any& out) {
  Metrics metrics;
  fill(metrics, stats);
  out.set_type_url(metrics.GetTypeName());
  out.set_value(metrics.SerializeAsString());
}

}  // namespace

void encode_stats(const cgroup::Stats& stats, proto::Any& out) {
  if (stats.v2) {
    encode<v2::Metrics>(stats, out);
  } else {
    encode<v1::Metrics>(stats, out);
  }
}

}  // namespace amphora::shim
