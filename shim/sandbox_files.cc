// SPDX-License-Identifier: Apache-2.0
// A pod's files. See sandbox_files.h.
#include "shim/sandbox_files.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/sandbox_spec.h"
#include "executor/oci/spec.h"
#include "shim/sandbox_config.h"

// pause/pause.c, compiled: no bytes of this file's own.
__asm__(
    ".pushsection .rodata\n"
    "amphora_pause_begin: .incbin \"" AMPHORA_PAUSE_FILE
    "\"\n"
    "amphora_pause_end: .byte 0\n"
    ".popsection\n");
// NOLINTNEXTLINE(readability-identifier-naming): the names of symbols
extern "C" const char amphora_pause_begin[], amphora_pause_end[];

namespace amphora::shim {
namespace {

constexpr size_t kMaxHostFile = 1 << 20;

std::string shm_of(const std::string& bundle) { return bundle + "/shm"; }

/// To root of the pod's user namespace, who to the host is nobody.
Result<void> give(const UniqueFd& fd, mode_t mode, const std::string& path,
                  const SandboxConfig& config) {
  if (::fchmod(fd.get(), mode) != 0) return fail_errno(errno, "set mode of " + path);
  if (config.uid_mappings.empty() || config.gid_mappings.empty()) return {};
  if (::fchown(fd.get(), config.uid_mappings[0].host_id, config.gid_mappings[0].host_id) != 0) {
    return fail_errno(errno, "give " + path + " to the pod's root");
  }
  return {};
}

Result<void> write_file(const std::string& path, std::string_view data, mode_t mode,
                        const SandboxConfig& config) {
  TRY_ASSIGN(const UniqueFd fd, open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode));
  TRY(write_all(fd.get(), data));
  return give(fd, mode, path, config);
}

Result<void> make_directory(const std::string& path, const SandboxConfig& config) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno(errno, "create directory " + path);
  }
  TRY_ASSIGN(const UniqueFd fd, open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY));
  return give(fd, 0755, path, config);
}

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

/// What the host has; a host without such a file gives an empty one.
std::string host_file(const std::string& path) {
  return read_file_at(AT_FDCWD, path, kMaxHostFile).value_or(std::string());
}

Result<void> mount_shm(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, "create directory " + path);
  }
  if (::mount("shm", path.c_str(), "tmpfs", MS_NOEXEC | MS_NOSUID | MS_NODEV,
              "mode=1777,size=65536k") != 0) {
    return fail_errno(errno, "mount the pod's shared memory on " + path);
  }
  return {};
}

bool may_lower_oom_score() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE)) != 0;
}

}  // namespace

Result<std::vector<oci::Mount>> make_pod_files(const SandboxConfig& config) {
  const std::string& bundle = config.bundle;
  const std::string name = config.hostname.empty() ? host_name() : config.hostname;
  const std::string resolver = config.has_dns ? resolv_conf(config) : host_file("/etc/resolv.conf");
  TRY(write_file(bundle + "/hostname", name + "\n", 0644, config));
  TRY(write_file(bundle + "/hosts", host_file("/etc/hosts"), 0644, config));
  TRY(write_file(bundle + "/resolv.conf", resolver, 0644, config));
  std::vector<oci::Mount> mounts;
  const auto add = [&](const char* destination, const std::string& source,
                       std::vector<std::string> options) {
    mounts.push_back({destination, "bind", source, std::move(options), {}, {}});
  };
  for (const char* const file : {"hostname", "hosts", "resolv.conf"}) {
    add((std::string("/etc/") + file).c_str(), bundle + "/" + file, {"rbind", "rprivate", "rw"});
  }
  if (config.host_ipc) return mounts;  // the host's shared memory, which containerd mounts
  TRY(mount_shm(shm_of(bundle)));
  add("/dev/shm", shm_of(bundle), {"rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"});
  return mounts;
}

Result<void> make_pause_bundle(const SandboxConfig& config, const std::string& user_namespace) {
  // Not "rootfs", which containerd wants to find empty in the end.
  const std::string rootfs = config.bundle + "/" + kPauseRoot;
  TRY(make_directory(rootfs, config));
  TRY(make_directory(rootfs + "/dev", config));  // whose nodes a container has in any case
  const std::string_view program(amphora_pause_begin,
                                 static_cast<size_t>(amphora_pause_end - amphora_pause_begin));
  TRY(write_file(rootfs + kPauseProgram, program, 0755, config));
  const auto spec = sandbox_spec(config, user_namespace, may_lower_oom_score());
  TRY_ASSIGN(const UniqueFd bundle, open_at(AT_FDCWD, config.bundle, O_RDONLY | O_DIRECTORY));
  return replace_file_at(bundle.get(), "config.json", oci::sandbox_spec_json(spec));
}

Result<void> remove_pod_files(const std::string& bundle) {
  const std::string shm = shm_of(bundle);
  if (::umount2(shm.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
      errno != ENOENT) {
    return fail_errno(errno, "unmount " + shm);
  }
  return {};
}

Result<UniqueFd> users_of_network(const std::string& netns_path) {
  TRY_ASSIGN(const UniqueFd network, open_at(AT_FDCWD, netns_path, O_RDONLY));
  UniqueFd users(::ioctl(network.get(), NS_GET_USERNS));
  if (!users) return fail_errno(errno, "find the user namespace of " + netns_path);
  struct stat theirs{}, own{};
  if (::fstat(users.get(), &theirs) != 0 || ::stat("/proc/self/ns/user", &own) != 0) {
    return fail_errno(errno, "compare the user namespace of " + netns_path);
  }
  if (theirs.st_ino == own.st_ino) {
    return fail(Errc::kInvalid, "network namespace " + netns_path +
                                    " belongs to the host's user namespace, not to the pod's");
  }
  return users;
}

}  // namespace amphora::shim
