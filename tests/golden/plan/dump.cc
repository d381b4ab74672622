// SPDX-License-Identifier: Apache-2.0
// Plans as text. See dump.h.
#include "tests/golden/plan/dump.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include <cstring>

#include <fmt/format.h>

#include "executor/base/missing.h"

namespace amphora::setup {
namespace {

using enum init::Op;

struct Bit {
  uint64_t value;
  const char* name;
};
constexpr Bit kCloneBits[] = {
    {CLONE_NEWCGROUP, "cgroup"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWNET, "net"},
    {CLONE_NEWNS, "mount"},      {CLONE_NEWPID, "pid"}, {CLONE_NEWTIME, "time"},
    {CLONE_NEWUSER, "user"},     {CLONE_NEWUTS, "uts"},
};
constexpr Bit kAttributeBits[] = {
    {MOUNT_ATTR_RDONLY, "ro"},
    {MOUNT_ATTR_NOSUID, "nosuid"},
    {MOUNT_ATTR_NODEV, "nodev"},
    {MOUNT_ATTR_NOEXEC, "noexec"},
    {MOUNT_ATTR__ATIME, "atime"},
    {MOUNT_ATTR_NOATIME, "noatime"},
    {MOUNT_ATTR_STRICTATIME, "strictatime"},
    {MOUNT_ATTR_NODIRATIME, "nodiratime"},
    {MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
    {MOUNT_ATTR_IDMAP, "idmap"},
};
constexpr Bit kMountBits[] = {
    {MS_RDONLY, "ro"},
    {MS_NOSUID, "nosuid"},
    {MS_NODEV, "nodev"},
    {MS_NOEXEC, "noexec"},
    {MS_SYNCHRONOUS, "sync"},
    {MS_REMOUNT, "remount"},
    {MS_DIRSYNC, "dirsync"},
    {MS_NOATIME, "noatime"},
    {MS_NODIRATIME, "nodiratime"},
    {MS_BIND, "bind"},
    {MS_REC, "rec"},
    {MS_SILENT, "silent"},
    {MS_UNBINDABLE, "unbindable"},
    {MS_PRIVATE, "private"},
    {MS_SLAVE, "slave"},
    {MS_SHARED, "shared"},
    {MS_RELATIME, "relatime"},
    {MS_STRICTATIME, "strictatime"},
};
constexpr Bit kFlagBits[] = {
    {init::kOptional, "optional"}, {init::kRecursive, "recursive"}, {init::kCreate, "create"},
    {init::kNoFollow, "nofollow"}, {init::kTolerate, "tolerate"},   {init::kKeepLink, "keep-link"},
    {init::kInRoot, "in-root"},    {init::kByParent, "by-parent"},
};

constexpr Bit kInheritBits[] = {
    {init::kInheritMode, "mode"},
    {init::kInheritOwner, "owner"},
    {init::kInheritContent, "content"},
};

/// "ro,nosuid", what has no name in hex; "0" for nothing.
template <size_t N>
std::string bits(uint64_t value, const Bit (&table)[N]) {
  std::string text;
  for (const Bit& bit : table) {
    if ((value & bit.value) != bit.value) continue;
    value &= ~bit.value;
    text += text.empty() ? bit.name : std::string(",") + bit.name;
  }
  if (value != 0) text += fmt::format("{}{:#x}", text.empty() ? "" : ",", value);
  return text.empty() ? "0" : text;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

class Dumper {
 public:
  explicit Dumper(const Plan& plan) : plan_(plan) {}

  std::string all() {
    out_ += "clone: " + bits(plan_.clone_flags, kCloneBits) + "\n";
    if (!plan_.pid_namespace.empty()) out_ += "join pid namespace: " + plan_.pid_namespace + "\n";
    parent();
    for (const std::string& warning : plan_.warnings) out_ += "warning: " + warning + "\n";
    size_t number = 0;
    for (const init::Step& step : plan_.steps()) {
      out_ += fmt::format("{} {}: {}\n", number++, to_string(step.op), plan_.text(step.what));
      details(step);
    }
    return out_;
  }

 private:
  void parent() {
    const ParentWork& work = plan_.parent;
    for (const auto& limit : work.rlimits) {
      out_ += fmt::format("parent: rlimit {} {} {}\n", limit.name, limit.soft, limit.hard);
    }
    if (work.oom_score_adj) out_ += fmt::format("parent: oom_score_adj {}\n", *work.oom_score_adj);
    const auto ids = [&](const char* kind, const std::vector<oci::IdMapping>& mappings) {
      for (const oci::IdMapping& m : mappings) {
        out_ += fmt::format("parent: {} map {} {} {}\n", kind, m.container_id, m.host_id, m.size);
      }
    };
    ids("uid", work.uid_mappings);
    ids("gid", work.gid_mappings);
    for (const auto& [clock, offset] : work.time_offsets) {
      out_ += fmt::format("parent: time offset {} {} {}\n", clock, offset.secs, offset.nanosecs);
    }
    if (work.runtime_hooks) out_ += "parent: runtime hooks\n";
    if (!work.seccomp_listener_path.empty()) {
      out_ += fmt::format("parent: seccomp listener {} {}\n", work.seccomp_listener_path,
                          quoted(work.seccomp_metadata));
    }
  }

  void line(const std::string& text) { out_ += "    " + text + "\n"; }
  void text(const char* name, uint32_t offset) {
    if (offset != 0) line(fmt::format("{}: {}", name, quoted(plan_.text(offset))));
  }
  void hex(uint32_t offset, size_t size) {
    std::string digits;
    for (size_t i = 0; i < size; ++i) {
      digits += fmt::format("{:02x}", static_cast<unsigned char>(plan_.text(offset)[i]));
    }
    line("bytes: " + digits);
  }
  void table(const char* name, uint32_t offset) {
    for (const char* at = plan_.text(offset);; at += sizeof(uint64_t)) {
      uint64_t entry = 0;
      std::memcpy(&entry, at, sizeof entry);
      if (entry == 0) return;
      text(name, static_cast<uint32_t>(entry));
    }
  }
  void list(const char* name, uint32_t offset) {
    for (const char* at = plan_.text(offset); *at != '\0'; at += std::strlen(at) + 1) {
      line(fmt::format("{}: {}", name, quoted(at)));
    }
  }
  uint64_t word(uint32_t offset) const {
    uint64_t value = 0;
    std::memcpy(&value, plan_.text(offset), sizeof value);
    return value;
  }

  void source(int32_t index) {
    if (index < 0) return;
    const Source& s = plan_.sources.at(static_cast<size_t>(index));
    static constexpr const char* kKinds[] = {"given",          "tree",
                                             "namespace",      "null device",
                                             "empty tree",     "user namespace of an id map",
                                             "state of hooks", "hand-over"};
    std::string text = fmt::format("fd: {}", kKinds[static_cast<size_t>(s.kind)]);
    if (!s.path.empty()) text += " of " + s.path;
    if (s.recursive) text += ", recursive";
    if (s.no_follow) text += ", no symlink followed";
    if ((s.attr_set | s.attr_clr) != 0) {
      text += fmt::format(", set {} clear {}", bits(s.attr_set, kAttributeBits),
                          bits(s.attr_clr, kAttributeBits));
    }
    if ((s.rec_set | s.rec_clr) != 0) {
      text += fmt::format(", in the whole tree set {} clear {}", bits(s.rec_set, kAttributeBits),
                          bits(s.rec_clr, kAttributeBits));
    }
    if (s.idmap != Source::IdMap::kNone) {
      text += s.idmap == Source::IdMap::kTree ? ", ids in the whole tree mapped" : ", ids mapped";
      if (!s.maps_path.empty()) text += " by " + s.maps_path;
      for (const auto* map : {&s.maps.uids, &s.maps.gids}) {
        for (const oci::IdMapping& m : *map) {
          text += fmt::format(" {}-{}-{}", m.container_id, m.host_id, m.size);
        }
        if (map == &s.maps.uids) text += " /";
      }
    }
    for (const uint64_t flag : s.propagation) text += ", " + bits(flag, kMountBits);
    if (s.kind == Source::Kind::kNamespace) text += ", " + bits(s.n, kCloneBits);
    line(text);
  }

  /// What of the four texts and two numbers an operation has, as step.h says.
  void details(const init::Step& s) {
    if (s.flags != 0) line("flags: " + bits(s.flags, kFlagBits));
    if (!numbers(s) && !structures(s)) {
      text("a", s.a);
      text("b", s.b);
      text("c", s.c);
      text("d", s.d);
      if (s.n != 0) line(fmt::format("n: {}", s.n));
      if (s.m != 0) line(fmt::format("m: {}", s.m));
    }
    source(s.fd);
  }

  /// Operations whose numbers have names.
  bool numbers(const init::Step& s) {
    switch (s.op) {
      case kMountFs:
        text("target", s.a);
        text("type", s.b);
        text("source", s.c);
        text("data", s.d);
        line("flags of the mount: " + bits(s.n, kMountBits));
        return true;
      case kMountOver:
        text("target", s.a);
        text("type", s.b);
        text("source", s.c);
        list("option", s.d);
        line(fmt::format("set {} inherit {}", bits(s.n, kAttributeBits), bits(s.m, kInheritBits)));
        return true;
      case kPropagation:
      case kTargetPropagation:
        text("target", s.a);
        line("propagation: " + bits(s.n, kMountBits));
        return true;
      case kRemount:
      case kRemountRoot:
        text("target", s.a);
        text("source", s.c);
        line(fmt::format("set {} clear {}", bits(s.n, kAttributeBits), bits(s.m, kAttributeBits)));
        // A number here, unlike elsewhere.
        if (s.op == kRemount && s.b != 0) line("propagation: " + bits(s.b, kMountBits));
        return true;
      case kSetNamespace:
      case kUnshare:
        line("namespaces: " + bits(s.n, kCloneBits));
        return true;
      case kDropBounding:
      case kRaiseAmbient:
        line(fmt::format("capabilities: {:#x}", s.n));
        return true;
      case kUmask:
        line(fmt::format("umask: {:04o}", s.n));
        return true;
      case kDeviceNode:
        line(fmt::format("{} mode {:o} device {}:{} owner {}:{}", quoted(plan_.text(s.a)), s.n,
                         gnu_dev_major(s.m), gnu_dev_minor(s.m), s.c, s.d));
        return true;
      case kConsole:
        line(
            fmt::format("size {}x{}{}", s.n >> 16, s.n & 0xffff, s.m != 0 ? ", /dev/console" : ""));
        return true;
      default:
        return false;
    }
  }

  /// Operations with bytes or tables among their texts.
  bool structures(const init::Step& s) {
    switch (s.op) {
      case kSeccomp:
        // How long the program is, is libseccomp's table's business too.
        line(fmt::format("flags of the filter: {:#x}", s.m));
        return true;
      case kScheduler:
        hex(s.a, word(s.a) & 0xffff);  // the struct begins with its size
        return true;
      case kMemoryPolicy:
        line(fmt::format("mode {:#x}", s.n));
        hex(s.a, s.m / 8);
        return true;
      case kAffinity:
        if (std::string_view(plan_.text(s.a), s.n).find_first_not_of('\xff') == std::string::npos) {
          line("every CPU");
        } else {
          hex(s.a, s.n);
        }
        return true;
      case kSetGroups:
        hex(s.a, s.n * sizeof(uint32_t));
        return true;
      case kSetCaps:
        line(fmt::format("effective {:#x} permitted {:#x} inheritable {:#x}", s.n, s.m, word(s.a)));
        return true;
      case kOpenTree: {
        text("path", s.a);
        if (s.m != init::kPathTree) line(s.m == init::kNullTree ? "the null device" : "empty");
        if (s.n != UINT64_MAX) source(static_cast<int32_t>(s.n));
        for (uint32_t i = 0; i < s.d; ++i) {
          init::TreeChange change{};
          std::memcpy(&change, plan_.text(s.b) + i * sizeof change, sizeof change);
          line(fmt::format("{}set {} clear {} propagation {}",
                           change.recursive != 0 ? "in the whole tree " : "",
                           bits(change.set, kAttributeBits), bits(change.clear, kAttributeBits),
                           bits(change.propagation, kMountBits)));
        }
        return true;
      }
      case kRlimit:
        line(fmt::format("resource {} {} {}", s.n, s.m, word(s.d)));
        return true;
      case kView:
        list("empty", s.a);
        if (s.b != 0) text("cwd", s.b);
        return true;
      case kFindExe:
        list("candidate", s.a);
        return true;
      case kHook:
        text("path", s.a);
        table("arg", s.b);
        table("env", s.c);
        line(fmt::format("timeout: {} ms", s.n));
        return true;
      case kExec:
        table("arg", s.b);
        table("env", s.c);
        return true;
      case kHandOver:
        if (s.n != 0) line(fmt::format("{} bytes, {} descriptors", s.n, s.m));
        return true;
      default:
        return false;
    }
  }
  const Plan& plan_;
  std::string out_;
};

}  // namespace

std::string dump(const Plan& plan) { return Dumper(plan).all(); }

}  // namespace amphora::setup
