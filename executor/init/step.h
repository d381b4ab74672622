// SPDX-License-Identifier: Apache-2.0
// The vocabulary between the one who plans a container (setup/, in the parent) and the one who sets
// it up (init/, in the child): the steps, the frozen plan they live in, and the messages of the
// handshake. Position independent on purpose: a plan can be sent to another process as it is.
// No member here may need a constructor, an allocator or libc.
#pragma once

#include <cstdint>

namespace amphora::init {

/// What a step does. Above each implementation in init.cc stands why and from which source.
enum class Op : uint16_t {
  kNop = 0,
  kJoinCgroup,  ///< write "0" to the tasks file `fd`: this single thread enters that cgroup
  kAffinity,    ///< sched_setaffinity: this thread, the n byte mask at text offset a
  kAwait,       ///< wait for the parent's Message n (MessageKind); EOF ends the child
  kRendezvous,  ///< send kReached with value n (Rendezvous), then wait for kProceed; m: dumpable meanwhile
  kSetNamespace,        ///< setns(fd, n)
  kUnshare,             ///< unshare(n)
  kEnterTimeNamespace,  ///< setns to our own ns/time_for_children below procfs handle `fd`
  kSession,             ///< setsid, a new session for the container's init
  kBecomeRoot,          ///< setresgid(0), setresuid(0), setgroups(none) inside a new user namespace
  kLoopbackUp,          ///< bring lo up in a new network namespace
  kPropagation,         ///< mount(NULL, a, NULL, n) : propagation of an existing mount by path
  kAttachRoot,  ///< move the detached rootfs tree `fd` onto a, where that can be reached, else onto "/",
  ///< and remember it as the root; without `fd` the present "/" is remembered (exec, no mount namespace)
  kEnterDir,  ///< open directory a below the root for the steps after it (made with kCreate); n: and chdir; m: Keep
  kOpenTree,  ///< a mount tree that the parent may not clone, or that an earlier step made: tree at path a (Tree m),
  ///< changed by the d TreeChanges at b, becomes descriptor index `fd`, which held the directory of a
  ///< relative path; n: index of the user namespace that maps its ids (c: of all its mounts), UINT64_MAX: none; flags
  ///< kRecursive, kNoFollow (the link itself), kInRoot, kByParent
  kDumpable,  ///< PR_SET_DUMPABLE n
  kMountFs,  ///< new filesystem: target a, type b, source c, data d, MS_ flags n; m: a is a name in the entered directory (2:
             ///< which is the working directory and reached by nobody else);
             ///< `fd`: the tree to attach where that is forbidden (EPERM)
  kMountOver,  ///< new filesystem that takes m (Inherit) from the directory it hides: target a,
               ///< type b, source c, options d ("key" or "key=value", a list), MOUNT_ATTR_ n
  kMountProc,  ///< procfs of the pid namespace `fd`, which this process is not in: target a, options d and
               ///< MOUNT_ATTR_ n as for kMountOver; m: index of an empty tree for a helper's root
  kBind,  ///< attach the detached tree `fd` at target a, made like the tree if missing. With b, a
          ///< tree that is a symlink is copied instead, as c in directory b
  kAttachInDir,  ///< make directory a in the entered directory, attach tree `fd` (none: bind host path b) on it
  kRemount,  ///< mount_setattr on target a (none: the entered directory): set n, clear m, propagation b; flag kRecursive
  kTargetPropagation,  ///< mount_setattr propagation n on target a; flag kRecursive
  kDeviceNode,         ///< mknod name a in the entered directory: n = mode with type, m = rdev,
                       ///< uid in c, gid in d
  kDeviceBind,         ///< attach host device tree `fd` at file a
  kSymlink,  ///< symlink b named a in the entered directory; an existing one is left alone
  kDetach,   ///< take away the host's mount at a, or cover it where it is locked
  kPivot,    ///< pivot_root into the attached root; n != 0: chroot instead; m != 0: the old root
             ///< is made a slave first
  kMask,     ///< mask path a: a file by the detached /dev/null tree `fd`, a directory by the
  ///< detached empty tree with descriptor index n; d: likely a directory; m: a is a name in the entered directory
  kReadonlyPath,  ///< bind a on itself read-only; n: a is a name in the entered directory
  kRemountRoot,   ///< mount_setattr on "/": set n (read-only root)
  kView,  ///< keep a copy of all mounts (Walk::view_*) in which the directories of the list a are empty; b: the
          ///< working directory in it, if any; `fd`: our own verified procfs handle
  kHostname,        ///< sethostname(a)
  kDomainname,      ///< setdomainname(a)
  kWriteProc,       ///< write b to file a below our own verified procfs handle `fd`
  kSessionKeyring,  ///< keyctl join session keyring a
  kConsole,       ///< allocate the pty in the container's devpts, send the master (kConsole), make
                  ///< it stdio; n: height << 16 | width or 0; m != 0: also /dev/console;
                  ///< c != 0: whose terminal it is, a later kFork says
  kStdio,         ///< dup2(fd, n) for n in 0..2
  kOwnStdio,      ///< fchown of fds 0-2 to uid n, gid m where they are ours to give
  kUmask,         ///< umask(n)
  kRlimit,        ///< prlimit(self, n, {soft m, hard in text d as 8 bytes})
  kNoNewPrivs,    ///< PR_SET_NO_NEW_PRIVS
  kSeccomp,       ///< install the filter: n sock_filter records at text offset a; m = flags
  kScheduler,     ///< sched_setattr with the struct at text offset a, n bytes
  kIoPriority,    ///< ioprio_set(n)
  kPersonality,   ///< personality(n)
  kMemoryPolicy,  ///< set_mempolicy(mode n, mask at text offset a, m bits)
  kDropBounding,  ///< drop every capability not in mask n from the bounding set
  kKeepCaps,      ///< PR_SET_KEEPCAPS n
  kSetGroups,     ///< setgroups(n ids at text offset a as uint32_t)
  kSetGid,        ///< setresgid(n)
  kSetUid,        ///< setresuid(n)
  kSetCaps,       ///< capset: effective n, permitted m, inheritable at text offset a (uint64_t)
  kRaiseAmbient,  ///< raise every capability in mask n in the ambient set
  kChdir,         ///< chdir(a), created if missing when flag kCreate; then getcwd must be inside
  kFindExe,  ///< the first runnable of the NUL-separated candidates at a; error as exec's; n: the first is a regular file
  kFork,     ///< go on in a child, which the namespaces joined by setns take in, in a session of
             ///< its own; n != 0: stdin is its terminal. The parent is told (kForked)
  kTidy,     ///< close every descriptor that no later step names, but 0..n-1 and the root
  kReady,    ///< send kReady
  kAwaitStart,  ///< accept one connection on the start socket `fd`, which replaces status
  kHook,        ///< run an OCI hook inside: a = path, b = argv, c = env (tables), fd = stdin
                ///< memfd, n = timeout in ms (0 none)
  kCloseFds,    ///< everything from n on is close-on-exec: nothing of ours reaches the payload
  kExec,        ///< execve of the found program with argv table b, environment table c. A table is
                ///< 8-byte aligned uint64_t text offsets, ended by 0; the child makes pointers
  kHandOver,    ///< wasm: return to the host; once before kReady (the host loads the guest, then
                ///< calls run again), once at the end (the host runs the guest). The first carries
                ///< the executor's hand-over: n bytes at text offset a, m descriptors from fd on
};

/// Flags of a step.
enum StepFlag : uint16_t {
  kOptional = 1,   ///< a missing object (ENOENT) is no failure
  kRecursive = 2,  ///< AT_RECURSIVE
  kCreate = 4,     ///< make the object if it is missing
  kNoFollow = 8,   ///< the target must be reached without any symlink ("ordinary directory")
  kTolerate = 16,  ///< a failure is no failure (said by the plan, not guessed)
  kKeepLink = 32,  ///< a target that is a symlink is itself the target
  kInRoot = 64,    ///< the path is the container's, resolved below its root
  kByParent =
      128,  ///< the parent maps the tree's ids (kMapIds): init has no rights over its filesystem
};

/// What kOpenTree opens.
enum Tree : uint16_t {
  kPathTree,   ///< the mount, or part of one, at a path
  kNullTree,   ///< the same, which must be the null device
  kEmptyTree,  ///< an empty read-only directory
};

/// One mount_setattr(2) on a tree.
struct TreeChange {
  uint64_t set, clear, propagation;
  uint64_t recursive;
};

/// What kEnterDir does with its descriptor (m), for a directory that two of them enter with nothing mounted over it between.
enum Keep : uint16_t { kKeep = 1, kUseKept = 2 };

/// What a filesystem takes from the directory that it hides (kMountOver).
enum Inherit : uint16_t {
  kInheritMode = 1,
  kInheritOwner = 2,
  kInheritContent = 4,
};

/// One step. a, b, c, d and what are byte offsets into Plan text (0: none, text[0] is NUL), fd is an
/// index into the plan's descriptors (-1: none).
struct Step {
  Op op;
  uint16_t flags;
  int32_t fd;
  uint32_t a, b, c, d;
  uint64_t n, m;
  uint32_t what;  ///< the error text of this step, made by the parent: "mount proc on /proc"
  uint32_t reserved;
};

/// A frozen plan: one block of memory that needs no relocation, and descriptors beside it.
struct Header {
  uint32_t magic;    ///< kMagic
  uint32_t version;  ///< kVersion: both ends are built together, this says so
  uint32_t step_count;
  uint32_t text_size;
  // Step steps[step_count]; char text[text_size];
};
inline constexpr uint32_t kMagic = 0x616d7068;  // "amph"
inline constexpr uint32_t kVersion = 1;

/// A plan as the child sees it.
struct View {
  const Header* header;
  const Step* steps;
  const char* text;
  const int* fds;  ///< descriptors of the plan in this process, by index
  uint32_t fd_count;
};

/// Messages of the handshake, one datagram each on a SOCK_SEQPACKET pair. The sequence is drawn in
/// docs/process-model.md.
enum class MessageKind : uint16_t {
  kProceed = 1,  ///< parent to child: go on; value: from which Rendezvous, 0: one kAwait more
  kReached,      ///< child to parent: waiting at Rendezvous `value`
  kConsole,      ///< child to parent, with the pty master
  kForked,       ///< child to parent, with the pidfd of the process that goes on (value: its pid)
  kSeccomp,      ///< child to parent, with the listener (value: its number in the child)
  kReady,        ///< child to parent: set up, the program was found, waiting for start
  kFailure,  ///< child to parent or starter: step `step` failed with errno `err`; its error text
             ///< (`what`) follows, as the starter has no plan
  kMapIds,   ///< child to parent, with the tree of kOpenTree's step `step`: map its ids
  kFailureText,  ///< child to parent: step `step` failed; up to kFailureTextMax bytes follow, value
                 ///< is the exit code that fits (wasm host: a module that cannot be linked)
};

/// Points at which the child waits for work that only the parent can do.
enum class Rendezvous : uint16_t {
  kIdMaps = 1,    ///< user namespace made: id maps wanted
  kTimeOffsets,   ///< time namespace made: offsets wanted
  kRuntimeHooks,  ///< mounts stand, not pivoted: prestart and createRuntime hooks
  kNetDevices,    ///< network namespace made: devices wanted
  kTerminal,      ///< the pty's master was sent (kConsole)
  kMappedTree,    ///< a tree was sent (kMapIds)
};

inline constexpr uint32_t kFailureTextMax = 480;
struct Message {
  MessageKind kind;
  uint16_t step;
  int32_t err;
  int32_t value;
};

}  // namespace amphora::init
