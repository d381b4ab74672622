// SPDX-License-Identifier: Apache-2.0
// The readers of the spec's objects, declared together because they call each other through the
// templates of document.h. Each fills one struct of spec.h and checks what can be known from the
// document alone; whether this host can do it is setup's business. Private to executor/oci.
#pragma once

#include "executor/oci/document.h"
#include "executor/oci/spec.h"

namespace amphora::oci {

// spec.cc
void read(Value value, Spec& out);
void read(Value value, Root& out);
void read(Value value, IdMapping& out);
void read(Value value, Mount& out);
void read(Value value, Hook& out);
void read(Value value, Hooks& out);
/// A user or group id: 2^32-1 means "unchanged" to the kernel, never an id.
void read_id(Value value, uint32_t& out);
/// Fails unless `path` begins with a slash.
void check_absolute(const Object& object, std::string_view name, const std::string& path);

// spec_process.cc
void read(Value value, ConsoleSize& out);
void read(Value value, User& out);
void read(Value value, Capabilities& out);
void read(Value value, Rlimit& out);
void read(Value value, Scheduler& out);
void read(Value value, IoPriority& out);
void read(Value value, ExecCpuAffinity& out);
void read(Value value, Process& out);
/// Fails unless each entry is NAME=VALUE with a name.
void check_env(const Object& object);

// spec_linux.cc
void read(Value value, Namespace& out);
void read(Value value, TimeOffset& out);
void read(Value value, Device& out);
void read(Value value, NetDevice& out);
void read(Value value, SyscallArg& out);
void read(Value value, SyscallRule& out);
void read(Value value, Seccomp& out);
void read(Value value, IntelRdt& out);
void read(Value value, MemoryPolicy& out);
void read(Value value, Personality& out);
void read(Value value, Linux& out);

// spec_resources.cc
void read(Value value, DeviceRule& out);
void read(Value value, MemoryLimits& out);
void read(Value value, CpuLimits& out);
void read(Value value, WeightDevice& out);
void read(Value value, ThrottleDevice& out);
void read(Value value, BlockIo& out);
void read(Value value, HugepageLimit& out);
void read(Value value, InterfacePriority& out);
void read(Value value, NetworkLimits& out);
void read(Value value, RdmaLimit& out);
void read(Value value, Resources& out);

}  // namespace amphora::oci
