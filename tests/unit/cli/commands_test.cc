// SPDX-License-Identifier: Apache-2.0
// From a verb's words to its body: counts of arguments, help, exit codes of wrong lines.
#include <gtest/gtest.h>

#include "executor/cli/command.h"
#include "executor/cli/help.h"

namespace amphora::cli {
namespace {

struct DemoOptions {
  bool force = false;
};
constexpr Option kDemoOptions[] = {
    option<&DemoOptions::force>("force", 'f', "do it anyway"),
};

Result<int> demo(Context&, const DemoOptions& line, Arguments arguments) {
  if (line.force) return fail(Errc::kInternal, "forced");
  return static_cast<int>(arguments.size());
}

constexpr Command kDemo = {
    .name = "demo",
    .summary = "shows",
    .usage = "<container-id> [signal]",
    .description = "A verb for tests.",
    .options = kDemoOptions,
    .min_arguments = 1,
    .max_arguments = 2,
    .run = &verb<DemoOptions, &demo>,
};

class Verb : public ::testing::Test {
 protected:
  Result<int> run(const std::vector<const char*>& words) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    auto code = kDemo.run(kDemo, context_, words);
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return code;
  }
  Context context_{"/usr/bin/runc", {}};
  std::string out_, err_;
};

TEST_F(Verb, BodyGetsArgumentsAndItsErrorIsTheCallersToReport) {
  EXPECT_EQ(run({"id", "9"}).value(), 2);
  EXPECT_EQ(run({"id", "-f"}).error().what(), "forced");
  EXPECT_EQ(out_ + err_, "");
}

TEST_F(Verb, WrongCountIsSaidWithHelpAndIsOne) {
  EXPECT_EQ(run({}).value(), 1);
  EXPECT_TRUE(out_.starts_with("Incorrect Usage.\n\nNAME:\n   runc demo - shows\n")) << out_;
  EXPECT_NE(err_.find("/usr/bin/runc: \\\"demo\\\" requires a minimum of 1 argument(s)"),
            std::string::npos)
      << err_;
  EXPECT_EQ(run({"a", "b", "c"}).value(), 1);
  EXPECT_NE(err_.find("requires a maximum of 2 argument(s)"), std::string::npos) << err_;
}

TEST_F(Verb, UnknownOptionIsSaidWithHelp) {
  EXPECT_EQ(run({"--bogus", "id"}).value(), 1);
  EXPECT_TRUE(out_.starts_with("Incorrect Usage: flag provided but not defined: -bogus\n\nNAME:\n"))
      << out_;
}

TEST_F(Verb, HelpIsNoFailure) {
  EXPECT_EQ(run({"--help"}).value(), 0);
  EXPECT_EQ(err_, "");
  EXPECT_NE(out_.find("USAGE:\n   runc demo [command options] <container-id> [signal]\n"),
            std::string::npos)
      << out_;
  EXPECT_NE(out_.find("   --force, -f  do it anyway\n"), std::string::npos) << out_;
}

TEST(Version, UnderRuncsNameItsCallersCanParseIt) {
  EXPECT_TRUE(version_text("runc").starts_with("runc version 1.3.0+amphora."))
      << version_text("runc");
  // Docker takes the revision from this line, runc's callers the spec's version from the third.
  EXPECT_NE(version_text("runc").find("\ncommit: v"), std::string::npos) << version_text("runc");
  const std::string own = version_text("amphora");
  EXPECT_TRUE(own.starts_with("amphora version ")) << own;
  EXPECT_NE(own.find("\nspec: 1.3.0\nlibseccomp: "), std::string::npos) << own;
}

TEST(Name, FollowsTheLastPartOfTheProgram) {
  EXPECT_STREQ(Context("/usr/local/sbin/runc", {}).name(), "runc");
  EXPECT_STREQ(Context("runc", {}).name(), "runc");
  EXPECT_STREQ(Context("/usr/bin/amphora", {}).name(), "amphora");
  EXPECT_STREQ(Context("crunc", {}).name(), "amphora");
}

}  // namespace
}  // namespace amphora::cli
