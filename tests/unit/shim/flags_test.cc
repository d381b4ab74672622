// SPDX-License-Identifier: Apache-2.0
// Go's flag syntax, as the versions of containerd use it.
#include "shim/flags.h"

#include <vector>

#include <gtest/gtest.h>

namespace amphora::shim {
namespace {

Flags parse(std::vector<const char*> words) { return parse_flags(words); }

TEST(Flags, WhatContainerdSendsForStart) {
  const Flags flags = parse({"-namespace", "k8s.io", "-address", "/run/c.sock", "-publish-binary",
                             "/usr/bin/containerd", "-id", "web", "-debug", "start"});
  EXPECT_EQ(flags.name_space, "k8s.io");
  EXPECT_EQ(flags.address, "/run/c.sock");
  EXPECT_EQ(flags.publish_binary, "/usr/bin/containerd");
  EXPECT_EQ(flags.id, "web");
  EXPECT_TRUE(flags.debug);
  EXPECT_EQ(flags.action, "start");
}

TEST(Flags, BothDashesAndEqualsSigns) {
  const Flags flags =
      parse({"--namespace=a", "-id=b=c", "--debug=false", "-bundle", "/b", "delete"});
  EXPECT_EQ(flags.name_space, "a");
  EXPECT_EQ(flags.id, "b=c");
  EXPECT_FALSE(flags.debug);
  EXPECT_EQ(flags.bundle, "/b");
  EXPECT_EQ(flags.action, "delete");
}

TEST(Flags, NameOfTheProgramIsTheEngine) {
  EXPECT_EQ(engine_of_name("/usr/local/bin/containerd-shim-wasmtime-v1"), "wasmtime");
  EXPECT_EQ(engine_of_name("containerd-shim-wamr-v1"), "wamr");
  EXPECT_EQ(engine_of_name("/usr/local/bin/containerd-shim-amphora-v1"), "");
  EXPECT_EQ(engine_of_name("containerd-shim--v1"), "");
  EXPECT_EQ(engine_of_name("shim"), "");
}

TEST(Flags, UnknownOnesAreSkippedWithTheirValues) {
  const Flags flags = parse({"-new-switch", "-new-text", "value", "-new=1", "-id", "x", "start"});
  EXPECT_EQ(flags.id, "x");
  EXPECT_EQ(flags.action, "start");
  EXPECT_EQ(parse({"-new-switch", "start"}).action, "start");
}

TEST(Flags, TheActionEndsThem) {
  const Flags flags = parse({"-id", "x", "delete", "-id", "y"});
  EXPECT_EQ(flags.id, "x");
  EXPECT_EQ(flags.action, "delete");
}

TEST(Flags, VersionAndInfo) {
  EXPECT_TRUE(parse({"-v"}).version);
  EXPECT_TRUE(parse({"-version"}).version);
  EXPECT_TRUE(parse({"-info"}).info);
  EXPECT_EQ(parse({"-info"}).action, "");
}

TEST(Flags, AFlagWithoutItsValueIsEmpty) { EXPECT_EQ(parse({"-id"}).id, ""); }

}  // namespace
}  // namespace amphora::shim
