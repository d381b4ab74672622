// SPDX-License-Identifier: Apache-2.0
// Capability names to masks.
#include "executor/setup/caps.h"

#include <sys/capability.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::setup {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t bit(int n) { return uint64_t{1} << n; }
constexpr uint64_t kAll = (uint64_t{1} << 41) - 1;

TEST(Caps, NamesAreThoseOfLibcap) {
  const auto names = known_capabilities(63);
  ASSERT_EQ(names.size(), CAP_LAST_CAP + 1U);
  for (int n = 0; n <= CAP_LAST_CAP; ++n) {
    cap_value_t value = -1;
    EXPECT_EQ(cap_from_name(names[static_cast<size_t>(n)].c_str(), &value), 0);
    EXPECT_EQ(value, n);
  }
}

TEST(Caps, NamesBecomeBits) {
  const auto masks =
      make_cap_masks({.bounding = {"CAP_CHOWN", "CAP_KILL", "CAP_CHECKPOINT_RESTORE"},
                      .effective = {"CAP_KILL"},
                      .inheritable = {"CAP_NET_RAW"},
                      .permitted = {"CAP_KILL", "CAP_NET_RAW"},
                      .ambient = {"CAP_NET_RAW"}},
                     kAll, 40);
  ASSERT_TRUE(masks) << masks.error().what();
  EXPECT_EQ(masks->bounding, bit(CAP_CHOWN) | bit(CAP_KILL) | bit(CAP_CHECKPOINT_RESTORE));
  EXPECT_EQ(masks->effective, bit(CAP_KILL));
  EXPECT_EQ(masks->inheritable, bit(CAP_NET_RAW));
  EXPECT_EQ(masks->permitted, bit(CAP_KILL) | bit(CAP_NET_RAW));
  EXPECT_EQ(masks->ambient, bit(CAP_NET_RAW));
  EXPECT_THAT(masks->warnings, IsEmpty());
}

TEST(Caps, UnknownNamesAreLeftOutWithOneWarning) {
  const auto masks =
      make_cap_masks({.bounding = {"CAP_WINGS", "cap_chown", "CHOWN", "0", "", "CAP_KILL"},
                      .permitted = {"CAP_WINGS"}},
                     kAll, 40);
  ASSERT_TRUE(masks) << masks.error().what();
  EXPECT_EQ(masks->bounding, bit(CAP_KILL));
  EXPECT_EQ(masks->permitted, 0U);
  EXPECT_THAT(masks->warnings,
              ElementsAre("ignoring unknown or unavailable capabilities: [ 0 CAP_WINGS CHOWN "
                          "cap_chown]"));
}

TEST(Caps, WhatWeDoNotHoldCannotBeGranted) {
  const auto masks = make_cap_masks(
      {.bounding = {"CAP_KILL", "CAP_SYS_RESOURCE"}, .permitted = {"CAP_SYS_RESOURCE"}},
      kAll & ~bit(CAP_SYS_RESOURCE), 40);
  ASSERT_TRUE(masks) << masks.error().what();
  EXPECT_EQ(masks->bounding, bit(CAP_KILL));
  EXPECT_EQ(masks->permitted, 0U);
  EXPECT_THAT(masks->warnings,
              ElementsAre("ignoring unknown or unavailable capabilities: [CAP_SYS_RESOURCE]"));
}

TEST(Caps, WhatTheKernelDoesNotKnowIsUnavailable) {
  const auto masks = make_cap_masks({.bounding = {"CAP_BPF", "CAP_KILL"}}, ~uint64_t{0}, 38);
  ASSERT_TRUE(masks) << masks.error().what();
  EXPECT_EQ(masks->bounding, bit(CAP_KILL));
  EXPECT_THAT(masks->warnings,
              ElementsAre("ignoring unknown or unavailable capabilities: [CAP_BPF]"));
}

TEST(Caps, AmbientNeedsPermittedAndInheritable) {
  const auto masks = make_cap_masks({.inheritable = {"CAP_KILL", "CAP_CHOWN"},
                                     .permitted = {"CAP_KILL", "CAP_NET_RAW"},
                                     .ambient = {"CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"}},
                                    kAll, 40);
  ASSERT_TRUE(masks) << masks.error().what();
  EXPECT_EQ(masks->ambient, bit(CAP_KILL));
  EXPECT_THAT(
      masks->warnings,
      ElementsAre(
          "can't raise ambient capability CAP_CHOWN: it is not both permitted and inheritable",
          "can't raise ambient capability CAP_NET_RAW: it is not both permitted and inheritable"));
}

TEST(Caps, EffectiveBeyondPermittedIsAnError) {
  const auto masks = make_cap_masks(
      {.effective = {"CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"}, .permitted = {"CAP_KILL"}}, kAll, 40);
  ASSERT_FALSE(masks);
  EXPECT_EQ(masks.error().code(), Errc::kInvalid);
  EXPECT_EQ(masks.error().what(),
            "process.capabilities.effective: CAP_CHOWN, CAP_FOWNER not in permitted");
}

TEST(Caps, KnownCapabilitiesFollowTheKernel) {
  const auto names = known_capabilities(40);
  ASSERT_EQ(names.size(), 41U);
  EXPECT_EQ(names.front(), "CAP_CHOWN");
  EXPECT_EQ(names[CAP_SYS_ADMIN], "CAP_SYS_ADMIN");
  EXPECT_EQ(names.back(), "CAP_CHECKPOINT_RESTORE");
  EXPECT_EQ(known_capabilities(36).back(), "CAP_BLOCK_SUSPEND");
  // Numbers of a future kernel have no name yet and are not invented.
  EXPECT_EQ(known_capabilities(63).size(), 41U);
}

}  // namespace
}  // namespace amphora::setup
