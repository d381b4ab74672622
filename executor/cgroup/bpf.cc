// SPDX-License-Identifier: Apache-2.0
// Device programs and bpf(2). See bpf.h. Every call hands over a whole, zeroed union bpf_attr: some
// 6.17 to 7.1 kernels write beyond a shorter one in BPF_PROG_QUERY.
#include "executor/cgroup/bpf.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cgroup {
namespace {

constexpr const char kName[] = "amphora_dev";
constexpr uint32_t kMaxPrograms = 64;  // the kernel's limit per cgroup and type

int bpf(enum bpf_cmd command, union bpf_attr& attr) noexcept {
  for (;;) {
    const auto result = static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr));
    // EAGAIN: the verifier was interrupted by a signal.
    if (result >= 0 || (errno != EAGAIN && errno != EINTR)) return result;
  }
}

void zero(union bpf_attr& attr) noexcept { std::memset(&attr, 0, sizeof attr); }

uint64_t address(const void* pointer) noexcept { return reinterpret_cast<uintptr_t>(pointer); }

Result<std::vector<uint32_t>> attached(int cgroup_fd) {
  std::vector<uint32_t> ids(kMaxPrograms);
  union bpf_attr attr;
  zero(attr);
  attr.query.target_fd = static_cast<uint32_t>(cgroup_fd);
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = address(ids.data());
  attr.query.prog_cnt = kMaxPrograms;
  if (bpf(BPF_PROG_QUERY, attr) != 0) return fail_errno(errno, "list the cgroup's device programs");
  ids.resize(attr.query.prog_cnt);
  return ids;
}

/// The program of this id if it is one of ours.
UniqueFd open_own(uint32_t id) noexcept {
  union bpf_attr attr;
  zero(attr);
  attr.prog_id = id;
  UniqueFd fd(bpf(BPF_PROG_GET_FD_BY_ID, attr));
  if (!fd) return fd;
  struct bpf_prog_info info{};
  zero(attr);
  attr.info.bpf_fd = static_cast<uint32_t>(fd.get());
  attr.info.info_len = sizeof info;
  attr.info.info = address(&info);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, attr) != 0 || std::strcmp(info.name, kName) != 0) fd.reset();
  return fd;
}

}  // namespace

Result<UniqueFd> load_device_program(std::span<const struct bpf_insn> program) {
  static const char kLicense[] = "Apache-2.0";
  union bpf_attr attr;
  zero(attr);
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = address(program.data());
  attr.insn_cnt = static_cast<uint32_t>(program.size());
  attr.license = address(kLicense);
  std::memcpy(attr.prog_name, kName, sizeof kName);
  // RLIMIT_MEMLOCK is left alone: since 5.11 the memory is charged to the memory cgroup, and raising
  // it wants a privilege that not every root has.
  UniqueFd fd(bpf(BPF_PROG_LOAD, attr));
  if (!fd) return fail_errno(errno, "load the device program");
  return fd;
}

Result<void> attach_device_program(int cgroup_fd, int program_fd, bool fresh) {
  std::vector<UniqueFd> old;
  if (!fresh) {
    TRY_ASSIGN(const std::vector<uint32_t> ids, attached(cgroup_fd));
    for (const uint32_t id : ids) {
      UniqueFd fd = open_own(id);
      if (fd) old.push_back(std::move(fd));
    }
  }
  union bpf_attr attr;
  zero(attr);
  attr.target_fd = static_cast<uint32_t>(cgroup_fd);
  attr.attach_bpf_fd = static_cast<uint32_t>(program_fd);
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = BPF_F_ALLOW_MULTI;
  if (old.size() == 1) {
    attr.attach_flags |= BPF_F_REPLACE;
    attr.replace_bpf_fd = static_cast<uint32_t>(old.front().get());
  }
  if (bpf(BPF_PROG_ATTACH, attr) != 0) return fail_errno(errno, "attach the device program");
  if (old.size() <= 1) return {};
  // Several of ours: all of them had to agree, so taking them away one by one never allows more than
  // the new one does.
  for (const UniqueFd& program : old) {
    zero(attr);
    attr.target_fd = static_cast<uint32_t>(cgroup_fd);
    attr.attach_bpf_fd = static_cast<uint32_t>(program.get());
    attr.attach_type = BPF_CGROUP_DEVICE;
    if (bpf(BPF_PROG_DETACH, attr) != 0) return fail_errno(errno, "detach an old device program");
  }
  return {};
}

Result<size_t> count_device_programs(int cgroup_fd) {
  TRY_ASSIGN(const std::vector<uint32_t> ids, attached(cgroup_fd));
  return ids.size();
}

}  // namespace amphora::cgroup
