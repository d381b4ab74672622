// SPDX-License-Identifier: Apache-2.0
// Errors: their texts, and the macros that hand them on.
#include "executor/base/error.h"

#include <errno.h>

#include <memory>

#include <gtest/gtest.h>

namespace amphora {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(Errc::kInvalid, "odd");
  return n / 2;
}
Result<int> quarter(int n) {
  TRY_ASSIGN(const int once, half(n));
  TRY_ASSIGN(const int twice, half(once));
  return twice;
}
Result<void> check(int n, int& reached) {
  TRY(half(n));
  reached = n;
  return {};
}
Result<std::unique_ptr<int>> make(bool good) {
  if (!good) return fail_errno(ENOENT, "make it");
  return std::make_unique<int>(7);
}
Result<int> take(bool good) {
  TRY_ASSIGN(const std::unique_ptr<int> owned, make(good));
  return *owned;
}

TEST(Error, ErrnoBecomesText) {
  const Error error = Error::from_errno(EACCES, "open /proc");
  EXPECT_EQ(error.what(), "open /proc: permission denied");
  EXPECT_EQ(error.sys_errno(), EACCES);
  EXPECT_EQ(error.code(), Errc::kSystem);
}

TEST(Error, ContextGoesOutermostFirst) {
  Error error =
      Error::from_errno(EPERM, "mount proc on /proc").context("step 7").context("create web");
  EXPECT_EQ(error.what(), "create web: step 7: mount proc on /proc: operation not permitted");
  EXPECT_EQ(error.sys_errno(), EPERM) << "the cause survives";
  const Error hinted = std::move(error).hint("is it mounted?").as(Errc::kUnsupported);
  EXPECT_EQ(hinted.what(),
            "create web: step 7: mount proc on /proc: operation not permitted (is it mounted?)");
  EXPECT_EQ(hinted.code(), Errc::kUnsupported);
}

TEST(Error, TryHandsOnTheFirstFailure) {
  EXPECT_EQ(quarter(8).value(), 2);
  ASSERT_FALSE(quarter(6));
  EXPECT_EQ(quarter(6).error().what(), "odd");
  EXPECT_EQ(quarter(6).error().code(), Errc::kInvalid);
  int reached = 0;
  EXPECT_TRUE(check(4, reached));
  EXPECT_EQ(reached, 4);
  EXPECT_FALSE(check(5, reached));
  EXPECT_EQ(reached, 4) << "nothing after the failure runs";
}

TEST(Error, TryMovesOwners) {
  EXPECT_EQ(take(true).value(), 7);
  const auto failed = take(false);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().what(), "make it: no such file or directory");
}

TEST(ErrorDeathTest, CheckEndsTheProcessWithItsCondition) {
  AMPHORA_CHECK(1 + 1 == 2);
  EXPECT_DEATH(AMPHORA_CHECK(1 + 1 == 3),
               "amphora: check failed at .*error_test.cc:[0-9]+: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace amphora
