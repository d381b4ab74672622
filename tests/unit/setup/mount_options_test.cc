// SPDX-License-Identifier: Apache-2.0
// Mount options to flags and attributes.
#include "executor/setup/mount_options.h"

#include <sys/mount.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/missing.h"

namespace amphora::setup {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

MountOptions parse(std::vector<std::string> options, std::string type = "tmpfs") {
  auto parsed = parse_mount_options(
      {.destination = "/x", .type = std::move(type), .source = "s", .options = std::move(options)});
  EXPECT_TRUE(parsed) << parsed.error().what();
  return parsed ? *parsed : MountOptions{};
}

std::string error_of(const oci::Mount& mount) {
  const auto parsed = parse_mount_options(mount);
  if (parsed) return "no error";
  EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
  return parsed.error().what();
}

constexpr uint64_t kOrdinary = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                               MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
constexpr uint64_t kTimes = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

TEST(MountOptions, FlagsAndDataAreTakenApart) {
  const auto o = parse({"nosuid", "noexec", "mode=755", "size=65536k", "nodev"});
  EXPECT_EQ(o.ms_flags, uint64_t{MS_NOSUID | MS_NOEXEC | MS_NODEV});
  EXPECT_EQ(o.ms_clear, 0U);
  EXPECT_EQ(o.data, "mode=755,size=65536k");
  EXPECT_EQ(o.attr_set, uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV});
  EXPECT_FALSE(o.bind);
  EXPECT_THAT(o.propagation, IsEmpty());
}

TEST(MountOptions, DefaultsSaysNothing) {
  const auto o = parse({"defaults"});
  EXPECT_EQ(o.ms_flags, 0U);
  EXPECT_EQ(o.data, "");
  EXPECT_FALSE(o.changes_mount());
}

TEST(MountOptions, EveryFlagHasItsNegative) {
  const std::vector<std::tuple<const char*, const char*, uint64_t>> pairs = {
      {"ro", "rw", MS_RDONLY},
      {"nosuid", "suid", MS_NOSUID},
      {"nodev", "dev", MS_NODEV},
      {"noexec", "exec", MS_NOEXEC},
      {"sync", "async", MS_SYNCHRONOUS},
      {"mand", "nomand", MS_MANDLOCK},
      {"noatime", "atime", MS_NOATIME},
      {"nodiratime", "diratime", MS_NODIRATIME},
      {"relatime", "norelatime", MS_RELATIME},
      {"strictatime", "nostrictatime", MS_STRICTATIME},
      {"nosymfollow", "symfollow", 256},
      {"silent", "loud", MS_SILENT},
      {"iversion", "noiversion", MS_I_VERSION},
      {"lazytime", "nolazytime", 1 << 25},
  };
  for (const auto& [on, off, flag] : pairs) {
    EXPECT_EQ(parse({on}).ms_flags, flag) << on;
    EXPECT_EQ(parse({on}).ms_clear, 0U) << on;
    EXPECT_EQ(parse({off}).ms_flags, 0U) << off;
    EXPECT_EQ(parse({off}).ms_clear, flag) << off;
    EXPECT_EQ(parse({on, off}).ms_flags, 0U) << "the later of " << on << ", " << off;
    EXPECT_EQ(parse({off, on}).ms_flags, flag) << "the later of " << off << ", " << on;
    EXPECT_EQ(parse({off, on}).ms_clear, 0U) << "the later of " << off << ", " << on;
  }
  EXPECT_EQ(parse({"dirsync"}).ms_flags, uint64_t{MS_DIRSYNC});
}

TEST(MountOptions, BindWithoutFlagsKeepsItsSourceAsItIs) {
  const auto o = parse({"rbind", "rprivate"}, "none");
  EXPECT_TRUE(o.bind);
  EXPECT_TRUE(o.recursive_bind);
  EXPECT_FALSE(o.changes_mount());
  EXPECT_THAT(o.propagation, ElementsAre(uint64_t{MS_PRIVATE | MS_REC}));
}

TEST(MountOptions, BindWithAnyFlagReplacesAllFlagsOfItsSource) {
  const auto o = parse({"bind", "ro", "nosuid"}, "none");
  EXPECT_FALSE(o.recursive_bind);
  EXPECT_EQ(o.attr_set, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
  EXPECT_EQ(o.attr_clr, kOrdinary & ~o.attr_set);
  EXPECT_EQ(o.attr_clr_named, 0U);
  const auto rw = parse({"bind", "rw"}, "none");
  EXPECT_EQ(rw.attr_set, 0U);
  EXPECT_EQ(rw.attr_clr, kOrdinary);
  EXPECT_EQ(rw.attr_clr_named, uint64_t{MOUNT_ATTR_RDONLY});
}

TEST(MountOptions, RemountChangesOnlyWhatItNames) {
  const auto o = parse({"bind", "remount", "ro", "suid"}, "none");
  EXPECT_TRUE(o.remount);
  EXPECT_EQ(o.attr_set, uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(o.attr_clr, uint64_t{MOUNT_ATTR_NOSUID});
}

TEST(MountOptions, TypeBindIsABind) { EXPECT_TRUE(parse({}, "bind").bind); }

TEST(MountOptions, AccessTimesAreOneField) {
  const auto no = parse({"bind", "noatime"}, "none");
  EXPECT_EQ(no.attr_set, uint64_t{MOUNT_ATTR_NOATIME});
  EXPECT_EQ(no.attr_clr_named, kTimes) << "nodiratime goes, too";
  EXPECT_EQ(no.attr_clr & MOUNT_ATTR__ATIME, uint64_t{MOUNT_ATTR__ATIME});
  // relatime is the field's 0: nothing to set, all to clear.
  const auto rel = parse({"bind", "relatime"}, "none");
  EXPECT_EQ(rel.attr_set, 0U);
  EXPECT_EQ(rel.attr_clr_named, kTimes);
  // What is only said not to be wanted is no setting (mount(8)): the source's stays.
  for (const char* word : {"atime", "diratime", "norelatime", "nostrictatime"}) {
    const auto clearing = parse({"bind", word}, "none");
    EXPECT_EQ(clearing.attr_set, 0U) << word;
    EXPECT_EQ(clearing.attr_clr & kTimes, 0U) << word;
    EXPECT_FALSE(clearing.sets_atime) << word;
  }
  // The kernel's order of mount(2): strictatime over noatime over relatime.
  EXPECT_EQ(parse({"strictatime", "noatime"}).attr_set, uint64_t{MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(parse({"noatime", "relatime"}).attr_set, uint64_t{MOUNT_ATTR_NOATIME});
  // A flag beside the field, which becomes relatime with it unless another is named.
  const auto nodir = parse({"nodiratime"});
  EXPECT_EQ(nodir.attr_set, uint64_t{MOUNT_ATTR_NODIRATIME});
  EXPECT_EQ(nodir.attr_clr_named, uint64_t{MOUNT_ATTR__ATIME});
  EXPECT_EQ(parse({"nodiratime", "strictatime"}).attr_set,
            uint64_t{MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(parse({"bind", "ro"}, "none").attr_clr & MOUNT_ATTR__ATIME, 0U);
}

TEST(MountOptions, RecursiveAttributes) {
  const auto o = parse({"rbind", "rro", "rnosuid", "rexec"}, "none");
  EXPECT_EQ(o.rec_set, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
  EXPECT_EQ(o.rec_clr, uint64_t{MOUNT_ATTR_NOEXEC});
  EXPECT_FALSE(o.changes_mount()) << "recursive attributes are no flags of the top mount";
  const std::vector<std::tuple<const char*, const char*, uint64_t>> pairs = {
      {"rro", "rrw", MOUNT_ATTR_RDONLY},
      {"rnosuid", "rsuid", MOUNT_ATTR_NOSUID},
      {"rnodev", "rdev", MOUNT_ATTR_NODEV},
      {"rnoexec", "rexec", MOUNT_ATTR_NOEXEC},
      {"rnodiratime", "rdiratime", MOUNT_ATTR_NODIRATIME},
      {"rnosymfollow", "rsymfollow", MOUNT_ATTR_NOSYMFOLLOW},
  };
  for (const auto& [on, off, flag] : pairs) {
    EXPECT_EQ(parse({off, on}).rec_set, flag) << on;
    EXPECT_EQ(parse({off, on}).rec_clr, 0U) << on;
    EXPECT_EQ(parse({on, off}).rec_set, 0U) << off;
    EXPECT_EQ(parse({on, off}).rec_clr, flag) << off;
  }
}

TEST(MountOptions, RecursiveAccessTimesClearTheWholeField) {
  for (const auto& [word, set] :
       std::vector<std::pair<const char*, uint64_t>>{{"rnoatime", MOUNT_ATTR_NOATIME},
                                                     {"rstrictatime", MOUNT_ATTR_STRICTATIME},
                                                     {"rrelatime", 0},
                                                     {"rnorelatime", 0},
                                                     {"ratime", 0},
                                                     {"rnostrictatime", 0}}) {
    EXPECT_EQ(parse({word}).rec_set, set) << word;
    EXPECT_EQ(parse({word}).rec_clr, uint64_t{MOUNT_ATTR__ATIME}) << word;
  }
  EXPECT_EQ(parse({"rnoatime", "rstrictatime"}).rec_set, uint64_t{MOUNT_ATTR_STRICTATIME});
}

TEST(MountOptions, PropagationKeepsItsOrder) {
  EXPECT_THAT(parse({"slave", "rshared"}).propagation,
              ElementsAre(uint64_t{MS_SLAVE}, uint64_t{MS_SHARED | MS_REC}));
  EXPECT_THAT(
      parse({"unbindable", "runbindable", "private", "rprivate", "shared", "rslave"}).propagation,
      ElementsAre(uint64_t{MS_UNBINDABLE}, uint64_t{MS_UNBINDABLE | MS_REC}, uint64_t{MS_PRIVATE},
                  uint64_t{MS_PRIVATE | MS_REC}, uint64_t{MS_SHARED}, uint64_t{MS_SLAVE | MS_REC}));
}

TEST(MountOptions, Idmap) {
  EXPECT_TRUE(parse({"bind", "idmap"}, "none").idmap);
  EXPECT_FALSE(parse({"bind", "idmap"}, "none").recursive_idmap);
  EXPECT_TRUE(parse({"bind", "ridmap"}, "none").recursive_idmap);
  EXPECT_FALSE(parse({"bind", "ridmap", "idmap"}, "none").recursive_idmap);
  const auto o = parse({"bind", "idmap=uids=0-1-10;gids=0-1-10"}, "none");
  EXPECT_TRUE(o.idmap);
  EXPECT_EQ(o.idmap_spec, "uids=0-1-10;gids=0-1-10");
  EXPECT_EQ(o.data, "");
  const auto mapped = parse_mount_options({.destination = "/x",
                                           .type = "bind",
                                           .options = {"rbind"},
                                           .uid_mappings = {{0, 1000, 1}},
                                           .gid_mappings = {{0, 1000, 1}}});
  ASSERT_TRUE(mapped);
  EXPECT_TRUE(mapped->idmap);
}

TEST(MountOptions, Switches) {
  EXPECT_TRUE(parse({"tmpcopyup"}).copy_up);
  EXPECT_TRUE(parse({"bind", "copy-symlink"}, "none").copy_symlink);
  EXPECT_TRUE(parse({"bind", "dest-nofollow"}, "none").dest_nofollow);
  EXPECT_TRUE(parse({"bind", "src-nofollow"}, "none").src_nofollow);
  EXPECT_EQ(parse({"bind", "src-nofollow", "dest-nofollow"}, "none").data, "");
}

TEST(MountOptions, BindWithFilesystemOptionsIsRefused) {
  EXPECT_EQ(error_of({.destination = "/x", .type = "bind", .options = {"bind", "size=5", "foo"}}),
            "mount /x: bind mounts cannot have any filesystem-specific options applied: "
            "\"size=5,foo\"");
}

TEST(MountOptions, ImpossibleCombinationsAreRefused) {
  EXPECT_EQ(error_of({.destination = "/x", .options = {"bind", "copy-symlink", "dest-nofollow"}}),
            "mount /x: copy-symlink excludes dest-nofollow");
  EXPECT_EQ(error_of({.destination = "/x", .options = {std::string("a\0b", 3)}}),
            "mount /x: an option has a NUL");
}

TEST(MountOptions, KnownOptionsAreSortedAndUnderstood) {
  const auto words = known_mount_options();
  EXPECT_TRUE(std::is_sorted(words.begin(), words.end()));
  EXPECT_EQ(words.size(), 65U);
  for (const std::string& word : words) EXPECT_EQ(parse({word}).data, "") << word;
}

}  // namespace
}  // namespace amphora::setup
