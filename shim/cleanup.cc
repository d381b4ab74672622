// SPDX-License-Identifier: Apache-2.0
// The `delete` action. See cleanup.h.
#include "shim/cleanup.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "common.pb.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"
#include "executor/store/store.h"
#include "shim/backend.h"
#include "shim/bootstrap.h"
#include "shim/flags.h"
#include "shim/rootfs.h"
#include "shim/runtime_backend.h"
#include "shim/sandbox_files.h"
#include "task.pb.h"

namespace amphora::shim {
namespace {

// What the client reads when nobody saw the end: killed.
constexpr uint32_t kKilled = 137;
constexpr size_t kMaxSmallFile = 4096;

std::string small_file(const std::string& path) {
  return read_file_at(AT_FDCWD, path, kMaxSmallFile).value_or(std::string());
}

void set_now(proto::Timestamp& out) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  out.set_seconds(now.tv_sec);
  out.set_nanos(static_cast<int32_t>(now.tv_nsec));
}

/// RFC 3339 in UTC, as the record has it.
bool set_time(proto::Timestamp& out, const std::string& text) {
  tm parts{};
  const char* const rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return false;
  out.set_seconds(::timegm(&parts));
  if (*rest == '.') {
    int32_t nanos = 0, scale = 100000000;
    for (const char* digit = rest + 1; *digit >= '0' && *digit <= '9'; ++digit, scale /= 10) {
      nanos += (*digit - '0') * scale;
    }
    out.set_nanos(nanos);
  }
  return true;
}

Result<void> remove_container(const std::string& root, const std::string& id,
                              proto::DeleteResponse& response) {
  TRY_ASSIGN(Store store, Store::open(root, /*create=*/false));
  if (const auto entry = store.peek(id)) {
    if (const auto state = entry->load()) {
      response.set_pid(static_cast<uint32_t>(state->pid));
      if (state->exit_code) {
        response.set_exit_status(static_cast<uint32_t>(*state->exit_code));
        set_time(*response.mutable_exited_at(), state->exited_at);
      }
    }
  }
  TRY_ASSIGN(setup::Host host, setup::probe_host());
  Children children;
  Runtime runtime(std::move(store), std::move(host), {}, {}, children);
  TRY(runtime.remove(id, Force::kYes));
  return {};
}

Result<void> remove_all(const Flags& flags, proto::DeleteResponse& response) {
  TRY(oci::check_id(flags.id));
  const std::string root =
      state_root(flags.name_space, small_file(flags.bundle + "/" + kStateRootFile));
  const std::string rootfs = flags.bundle + "/rootfs";
  const bool is_recorded = ::access((root + "/" + flags.id).c_str(), F_OK) == 0;
  const bool is_mounted = !flags.bundle.empty() && is_mount_point(rootfs);
  if (is_recorded) TRY(remove_container(root, flags.id, response));
  if (is_mounted) TRY(unmount_rootfs(rootfs));
  if (!flags.bundle.empty()) TRY(remove_pod_files(flags.bundle));  // a sandbox's
  // After an ordinary end the shim sees to its socket; one that was killed at its end cannot.
  const std::string address = small_file(flags.bundle + "/address");
  if (address.starts_with("unix:///")) {
    remove_dead_socket(address.substr(7));
  } else {
    // containerd 1.7 may remove the bundle beside us; one that is no pod's has its socket by its own name.
    const StartInput input = parse_start_input({}, flags, nullptr);
    remove_dead_socket(socket_path(input, flags, group_of({}, flags.id)));
  }
  return {};
}

}  // namespace

int remove_leftovers(const Flags& flags) {
  // Half done is worse than late.
  ::signal(SIGTERM, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  proto::DeleteResponse response;
  response.set_exit_status(kKilled);
  set_now(*response.mutable_exited_at());
  if (auto removed = remove_all(flags, response); !removed) {
    ::fprintf(stderr, "delete %s: %s\n", flags.id.c_str(), removed.error().what().c_str());
    return 1;
  }
  return write_all(STDOUT_FILENO, response.SerializeAsString()) ? 0 : 1;
}

}  // namespace amphora::shim
