// SPDX-License-Identifier: Apache-2.0
// The features document. See features.h. Lists that a room can tell are asked of that room, so that
// the document cannot promise what the code does not know.
#include "executor/cli/features.h"

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "executor/oci/json_writer.h"
#include "executor/setup/attributes.h"
#include "executor/setup/host.h"
#include "executor/setup/mount_options.h"
#include "executor/setup/seccomp.h"

namespace amphora::cli {
namespace {

constexpr const char* kHooks[] = {"prestart",       "createRuntime", "createContainer",
                                  "startContainer", "poststart",     "poststop"};
constexpr const char* kNamespaces[] = {"cgroup", "ipc",  "mount", "network",
                                       "pid",    "time", "user",  "uts"};
/// By number; a host with an older kernel knows a prefix of them.
constexpr const char* kCapabilities[] = {"CAP_CHOWN",
                                         "CAP_DAC_OVERRIDE",
                                         "CAP_DAC_READ_SEARCH",
                                         "CAP_FOWNER",
                                         "CAP_FSETID",
                                         "CAP_KILL",
                                         "CAP_SETGID",
                                         "CAP_SETUID",
                                         "CAP_SETPCAP",
                                         "CAP_LINUX_IMMUTABLE",
                                         "CAP_NET_BIND_SERVICE",
                                         "CAP_NET_BROADCAST",
                                         "CAP_NET_ADMIN",
                                         "CAP_NET_RAW",
                                         "CAP_IPC_LOCK",
                                         "CAP_IPC_OWNER",
                                         "CAP_SYS_MODULE",
                                         "CAP_SYS_RAWIO",
                                         "CAP_SYS_CHROOT",
                                         "CAP_SYS_PTRACE",
                                         "CAP_SYS_PACCT",
                                         "CAP_SYS_ADMIN",
                                         "CAP_SYS_BOOT",
                                         "CAP_SYS_NICE",
                                         "CAP_SYS_RESOURCE",
                                         "CAP_SYS_TIME",
                                         "CAP_SYS_TTY_CONFIG",
                                         "CAP_MKNOD",
                                         "CAP_LEASE",
                                         "CAP_AUDIT_WRITE",
                                         "CAP_AUDIT_CONTROL",
                                         "CAP_SETFCAP",
                                         "CAP_MAC_OVERRIDE",
                                         "CAP_MAC_ADMIN",
                                         "CAP_SYSLOG",
                                         "CAP_WAKE_ALARM",
                                         "CAP_BLOCK_SUSPEND",
                                         "CAP_AUDIT_READ",
                                         "CAP_PERFMON",
                                         "CAP_BPF",
                                         "CAP_CHECKPOINT_RESTORE"};

class Document : public oci::JsonWriter {
 public:
  using JsonWriter::JsonWriter;

  template <class Words>
  void list(const char* name, const Words& words) {
    open(name, '[');
    for (const auto& word : words) text("", word);
    close(']');
  }
  void enabled(const char* name, bool yes) {
    open(name, '{');
    boolean("enabled", yes);
    close('}');
  }
};

void write_cgroup(Document& out) {
  // What this build can drive, not what this host has mounted: the same as runc says.
  out.open("cgroup", '{');
  for (const char* driver : {"v1", "v2", "systemd", "systemdUser", "rdma"})
    out.boolean(driver, true);
  out.close('}');
}

void write_seccomp(Document& out, const setup::SeccompFeatures& seccomp) {
  out.open("seccomp", '{');
  out.boolean("enabled", true);
  out.list("actions", seccomp.actions);
  out.list("operators", seccomp.operators);
  out.list("archs", seccomp.archs);
  out.list("knownFlags", seccomp.known_flags);
  out.list("supportedFlags", seccomp.supported_flags);
  out.close('}');
}

void write_linux(Document& out, const setup::Host& host, const setup::SeccompFeatures& seccomp) {
  out.open("linux", '{');
  out.list("namespaces", kNamespaces);
  const std::span<const char* const> known(kCapabilities);
  const auto here = static_cast<size_t>(host.last_capability) + 1;
  out.list("capabilities", known.first(here < known.size() ? here : known.size()));
  write_cgroup(out);
  write_seccomp(out, seccomp);
  // As with cgroups: whether a container may ask for it. Whether the LSM is on is the host's affair.
  out.enabled("apparmor", true);
  out.enabled("selinux", true);
  out.open("intelRdt", '{');
  out.boolean("enabled", true);
  out.boolean("schemata", true);
  out.boolean("monitoring", true);
  out.close('}');
  out.open("memoryPolicy", '{');
  out.list("modes", setup::known_memory_policy_modes());
  out.list("flags", setup::known_memory_policy_flags());
  out.close('}');
  out.open("mountExtensions", '{');
  out.enabled("idmap", true);
  out.close('}');
  out.enabled("netDevices", true);
  out.close('}');
}

}  // namespace

std::string features_json(const setup::Host& host) {
  const setup::SeccompFeatures seccomp = setup::seccomp_features();
  Document out(4);
  out.open("", '{');
  out.text("ociVersionMin", "1.0.0");
  out.text("ociVersionMax", kSpecVersion);
  out.list("hooks", kHooks);
  out.list("mountOptions", setup::known_mount_options());
  write_linux(out, host, seccomp);
  out.open("annotations", '{');
  out.text("io.github.seccomp.libseccomp.version", seccomp.libseccomp_version);
  // runc's own keys as well: tools look for these names and for nothing else.
  out.text("org.opencontainers.runc.checkpoint.enabled", "true");
  out.text("org.opencontainers.runc.version", kRuncLevel);
  out.text("io.amphora.version", AMPHORA_VERSION);
  out.close('}');
  constexpr const char* kUnsafe[] = {"bundle", "org.systemd.property."};
  out.list("potentiallyUnsafeConfigAnnotations", kUnsafe);
  out.close('}');
  return std::move(out).take();
}

}  // namespace amphora::cli
