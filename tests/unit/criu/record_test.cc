// SPDX-License-Identifier: Apache-2.0
// What is kept beside CRIU's images, and what a restore refuses, without CRIU.
#include <gtest/gtest.h>

#include "executor/runtime/checkpoint.h"

namespace amphora::runtime {
namespace {

oci::Spec spec_with_mounts() {
  oci::Spec spec;
  spec.mounts = {{.destination = "/proc",
                  .type = "proc",
                  .source = "proc",
                  .options = {},
                  .uid_mappings = {},
                  .gid_mappings = {}},
                 {.destination = "/data",
                  .type = "bind",
                  .source = "/srv/data",
                  .options = {"bind"},
                  .uid_mappings = {},
                  .gid_mappings = {}},
                 {.destination = "/here",
                  .type = "",
                  .source = "below",
                  .options = {"rbind"},
                  .uid_mappings = {},
                  .gid_mappings = {}}};
  spec.linux_.masked_paths = {"/proc/kcore"};
  spec.process.emplace();
  return spec;
}

TEST(ImageRecord, IsReadAsItWasWritten) {
  const ImageRecord record{{{"mount-1", "/data with blanks"}, {"null-0", "/proc/kcore"}},
                           {"", "pipe:[12]", "file[1a:2b]"}};
  const auto text = to_text(record);
  ASSERT_TRUE(text);
  const auto read = parse_image_record(*text);
  ASSERT_TRUE(read) << read.error().what();
  EXPECT_EQ(*read, record);
}

TEST(ImageRecord, PathsThatWouldEndAKeyAreRefused) {
  for (const char* path : {"/a]:b", "/a\nmount mount-0 /etc"}) {
    const auto text = to_text(ImageRecord{{{"mount-0", path}}, {}});
    ASSERT_FALSE(text) << path;
    EXPECT_EQ(text.error().code(), Errc::kInvalid);
  }
}

TEST(ImageRecord, NonsenseIsRefused) {
  const std::string head = "amphora checkpoint 1\n";
  EXPECT_TRUE(parse_image_record(head));
  for (const std::string& text :
       {std::string(), std::string("amphora checkpoint 2\n"), head + "mount a", head + "mount a\n",
        head + "mount a relative\n", head + "stdio 3 pipe:[1]\n", head + "stdio 0 \n",
        head + "mount a]:b /x\n", head + "other a b\n"}) {
    EXPECT_FALSE(parse_image_record(text)) << text;
  }
}

TEST(ImageRecord, SourcesAreTheSpecs) {
  const oci::Spec spec = spec_with_mounts();
  setup::Host host;
  host.hierarchies.push_back({"memory", "/sys/fs/cgroup/memory", "/"});
  oci::State state;
  state.cgroup_dirs["memory"] = "/own/c1";
  EXPECT_EQ(source_of({"mount-1", "/data"}, spec, "/b", state, host).value(), "/srv/data");
  EXPECT_EQ(source_of({"mount-2", "/here"}, spec, "/b", state, host).value(), "/b/below");
  EXPECT_EQ(source_of({"cgroup-memory", "/x"}, spec, "/b", state, host).value(),
            "/sys/fs/cgroup/memory/own/c1");
  EXPECT_EQ(source_of({"null-4", "/proc/kcore"}, spec, "/b", state, host).value(), "/dev/null");
  // CVE-2026-115520: neither a filesystem, nor one more, nor a path for a key.
  for (const External& other : {External{"mount-0", "/proc"},
                                {"mount-3", "/etc"},
                                {"mount-", "/etc"},
                                {"mount-1x", "/etc"},
                                {"/etc", "/etc"},
                                {"null-0", "/etc"},
                                {"cgroup-cpu", "/x"},
                                {"", "/x"}}) {
    EXPECT_FALSE(source_of(other, spec, "/b", state, host)) << other.key;
  }
}

std::string status_text(const char* caps, int nnp, int seccomp, int uid) {
  std::string text = "Name:\tsh\nUid:\t" + std::to_string(uid) + "\t0\t0\t0\n";
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    text +=
        std::string(set) + ":\t" +
        (std::string_view(set) == "CapInh" || std::string_view(set) == "CapAmb" ? "0000000000000000"
                                                                                : caps) +
        "\n";
  }
  return text + "NoNewPrivs:\t" + std::to_string(nnp) + "\nSeccomp:\t" + std::to_string(seccomp) +
         "\n";
}

TEST(RestoredRights, MayBeLessAndNeverMore) {
  oci::Spec spec = spec_with_mounts();
  oci::Capabilities& caps = spec.process->capabilities.emplace();
  caps.bounding = caps.effective = caps.permitted = {"CAP_CHOWN", "CAP_KILL"};
  const setup::Host host;
  EXPECT_TRUE(check_rights(spec, host, status_text("0000000000000021", 0, 0, 0)));
  EXPECT_TRUE(check_rights(spec, host, status_text("0000000000000000", 1, 2, 0)));
  EXPECT_FALSE(
      check_rights(spec, host, status_text("0000000000200021", 0, 0, 0)));  // CAP_SYS_ADMIN
  spec.process->no_new_privileges = true;
  EXPECT_FALSE(check_rights(spec, host, status_text("0000000000000021", 0, 0, 0)));
  EXPECT_TRUE(check_rights(spec, host, status_text("0000000000000021", 1, 0, 0)));
  spec.linux_.seccomp.emplace();
  EXPECT_FALSE(check_rights(spec, host, status_text("0000000000000021", 1, 0, 0)));
  EXPECT_TRUE(check_rights(spec, host, status_text("0000000000000021", 1, 2, 0)));
  spec.process->user.uid = 1000;
  EXPECT_FALSE(check_rights(spec, host, status_text("0000000000000021", 1, 2, 0)));
  EXPECT_TRUE(check_rights(spec, host, status_text("0000000000000021", 1, 2, 1000)));
  EXPECT_FALSE(check_rights(spec, host, "Name:\tsh\n"));
}

}  // namespace
}  // namespace amphora::runtime
