// SPDX-License-Identifier: Apache-2.0
// Plan: the ordered steps that make a container, as a value: it can be printed, compared and sent.
// A plan is first built (Builder), which is pure; then its sources are opened (open_sources), which
// needs this host; then it is frozen into one block and launched. Here belong the containers for
// steps, texts and sources; what the steps are is decided in make_plan and its parts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/user_namespace.h"

namespace amphora::setup {

/// A descriptor that the plan needs, described so that planning stays pure.
struct Source {
  enum class Kind : uint8_t {
    kGiven,      ///< `borrowed` is already there and stays its owner's
    kTree,       ///< detached clone of the mount tree at `path`, with attributes and propagation
    kNamespace,  ///< /proc/PID/ns/X or a pinned one at `path`; n = CLONE_NEW* it must be
    kNull,       ///< detached clone of the host's /dev/null, verified to be device 1:3
    kEmpty,      ///< detached empty read-only tmpfs
    kIdMap,      ///< user namespace that carries `maps`, or the one at `maps_path`
    kHookState,  ///< memfd that the launcher fills with the state for hooks inside
    kHandover,   ///< n-th descriptor of the executor's own list
  };
  Kind kind = Kind::kGiven;
  std::string path;
  std::string what;  ///< for errors: "rootfs /x", "error mounting \"/x\" to rootfs at \"/y\""
  bool recursive = false;
  bool no_follow = false;
  uint64_t attr_set = 0, attr_clr = 0;  ///< top mount
  uint64_t rec_set = 0, rec_clr = 0;    ///< whole tree
  /// A bind for a user namespace, which may not take away what a mount of the host's is restricted by
  /// (mount_namespaces(7)): attr_clr leaves those flags alone, and one of them in `named_clr`, or a
  /// setting of access times other than the mount's (`sets_atime`), is EPERM.
  bool keeps_locked = false, sets_atime = false;
  uint64_t named_clr = 0;
  std::vector<uint64_t> propagation;  ///< MS_SHARED, ..., each with or without MS_REC
  bool by_child = false;              ///< opened by the child (kOpenTree), here only its place
  enum class IdMap : uint8_t { kNone, kTop, kTree };
  IdMap idmap = IdMap::kNone;  ///< ids of the top mount, or of every mount, are mapped
  IdMaps maps;  ///< by these (kNamespace: which a user namespace must have, empty: any), or by
  std::string maps_path;  ///< the user namespace at this path
  uint64_t n = 0;
  std::string not_ours_for;  ///< kNamespace: the member for which it must not be our own
  int borrowed = -1;
  UniqueFd spent;  ///< what making `fd` left behind, closed with it
  UniqueFd fd;
};

/// What the parent does for the child while it walks.
struct ParentWork {
  struct Rlimit {
    int resource;
    uint64_t soft, hard;
    std::string name;
  };
  std::vector<Rlimit> rlimits;
  std::optional<int> oom_score_adj;
  std::vector<oci::IdMapping> uid_mappings, gid_mappings;  ///< of a new user namespace
  std::map<std::string, oci::TimeOffset> time_offsets;
  std::map<std::string, oci::NetDevice> net_devices;
  bool runtime_hooks = false;
  bool own_pid_namespace = false;  ///< init is the first of a new one
  std::string seccomp_listener_path, seccomp_metadata;
};

class Plan {
 public:
  Plan() = default;
  Plan(Plan&&) = default;
  Plan& operator=(Plan&&) = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  /// Closes the sources, neighbours in one call: a plan has dozens, opened in a row.
  ~Plan();
  /// Gives them away instead, to be closed with other neighbours.
  void give_sources(std::vector<UniqueFd>& out);

  /// Header, steps and text, contiguous and position independent.
  std::string_view blob() const noexcept { return blob_; }
  std::span<const int> fds() const noexcept { return fds_; }
  init::View view() const noexcept;
  std::span<const init::Step> steps() const noexcept;
  const char* text(uint32_t offset) const noexcept;

  /// One line a step: "12 mount-fs: mount proc on /proc".
  std::string describe() const;
  /// The same as JSON: [{"step":12,"op":"mount-fs","what":"..."}].
  std::string describe_json() const;

  uint64_t clone_flags = 0;   ///< CLONE_NEW* for clone3
  std::string pid_namespace;  ///< path to join around clone3, empty: none
  UniqueFd pid_namespace_fd;
  ParentWork parent;
  std::vector<Source> sources;
  std::vector<std::string> warnings;

 private:
  friend class Builder;
  friend Result<void> open_sources(Plan&, int bundle_fd, std::span<const int> handover);
  std::string blob_;
  std::vector<int> fds_;
};

/// Collects steps and texts. References returned by `step` are valid until the next call.
class Builder {
 public:
  Builder();
  /// Appends a step; `what` is its error text.
  init::Step& step(init::Op op, std::string_view what);
  uint32_t text(std::string_view text);
  uint32_t bytes(const void* data, size_t size);
  uint32_t word(uint64_t value) { return bytes(&value, sizeof value); }
  /// A table of strings for argv or environment.
  uint32_t table(std::span<const std::string> strings);
  /// NUL-separated list ended by an empty string.
  uint32_t list(std::span<const std::string> strings);
  int32_t source(Source&& source);
  /// A source that somebody else owns for as long as the plan lives.
  int32_t given(int fd, std::string_view what);
  void warn(std::string text) { plan_.warnings.push_back(std::move(text)); }
  Plan& plan() noexcept { return plan_; }
  /// Freezes; the builder is empty afterwards.
  Plan finish();

 private:
  Plan plan_;
  std::vector<init::Step> steps_;
  std::string text_;
};

/// The calls of mount_setattr(2) that give a tree its attributes and propagation, in their order.
std::vector<init::TreeChange> tree_changes(const Source& source);

/// "mount-fs" for kMountFs.
const char* to_string(init::Op op) noexcept;

/// Maps the ids of the tree that init has opened at `step` (init::kByParent), by the user namespace which
/// that step names. kInternal: it is no such step.
Result<void> map_ids_of(const Plan& plan, size_t step, int tree);  // sources.cc

/// Opens every source of the plan (sources.cc). Relative bind sources are the bundle's.
/// `handover` are the executor's descriptors, borrowed.
Result<void> open_sources(Plan& plan, int bundle_fd, std::span<const int> handover);

}  // namespace amphora::setup
