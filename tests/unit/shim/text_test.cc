// SPDX-License-Identifier: Apache-2.0
// Small pure parts: quoting, options, logging programs' words, error codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common.pb.h"
#include "options.pb.h"
#include "runtime_options.pb.h"
#include "shim/log.h"
#include "shim/logger.h"
#include "shim/options.h"
#include "shim/status.h"

namespace amphora::shim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Quoted, NothingEndsALineOrAString) {
  EXPECT_EQ(shim::quoted("a \"b\" \\ \n\x01"), R"("a \"b\" \\ \n\x01")");
  EXPECT_LT(shim::quoted(std::string(100000, 'x')).size(), 4096U);
}

TEST(Options, RuncsAreTaken) {
  containerd::runc::v1::Options options;
  options.set_root("/run/x");
  options.set_systemd_cgroup(true);
  options.set_no_pivot_root(true);
  options.set_io_uid(100000);
  options.set_binary_name("crun");
  proto::Any any;
  any.set_type_url("type.googleapis.com/containerd.runc.v1.Options");
  any.set_value(options.SerializeAsString());
  const RuntimeOptions parsed = parse_options(any);
  EXPECT_EQ(parsed.root, "/run/x");
  EXPECT_TRUE(parsed.systemd_cgroup);
  EXPECT_TRUE(parsed.no_pivot_root);
  EXPECT_EQ(parsed.io_owner.uid, 100000U);
  EXPECT_FALSE(parsed.io_owner.gid.has_value());
  EXPECT_THAT(parsed.notes, ElementsAre(HasSubstr("binary_name")));
}

TEST(Options, UnknownAndBrokenOnesAreNotedAndNoError) {
  proto::Any any;
  EXPECT_TRUE(parse_options(any).notes.empty());
  any.set_type_url("some.Other");
  EXPECT_THAT(parse_options(any).notes, ElementsAre(HasSubstr("some.Other are unknown")));
  any.set_type_url("containerd.runc.v1.Options");
  any.set_value("\xff\xff");
  EXPECT_THAT(parse_options(any).notes, ElementsAre(HasSubstr("cannot be decoded")));
  any.set_type_url("runtimeoptions.v1.Options");
  EXPECT_THAT(parse_options(any).notes, ElementsAre(HasSubstr("cannot be decoded")));
}

TEST(Options, TablesOfContainerdsConfiguration) {
  const auto parsed = [](const std::string& body) {
    runtimeoptions::v1::Options options;
    options.set_config_body(body);
    proto::Any any;
    any.set_type_url("runtimeoptions.v1.Options");
    any.set_value(options.SerializeAsString());
    return parse_options(any);
  };
  EXPECT_TRUE(parsed("").notes.empty());
  const RuntimeOptions good = parsed("engine = \"wamr\"\nSystemdCgroup = true\n");
  EXPECT_EQ(good.engine, "wamr");
  EXPECT_TRUE(good.systemd_cgroup);
  EXPECT_TRUE(good.notes.empty());
  EXPECT_TRUE(parsed("systemd_cgroup = true").systemd_cgroup);
  EXPECT_THAT(parsed("colour = 1").notes, ElementsAre(HasSubstr("option colour is unknown")));
  EXPECT_THAT(parsed("engine = 1").notes, ElementsAre(HasSubstr("engine is not a string")));
  EXPECT_THAT(parsed("engine = ").notes, ElementsAre(HasSubstr("no TOML, line 1")));
}

TEST(Options, FileOfOptionsIsRead) {
  runtimeoptions::v1::Options options;
  options.set_config_path("/nonexistent/options.toml");
  proto::Any any;
  any.set_type_url("runtimeoptions.v1.Options");
  any.set_value(options.SerializeAsString());
  EXPECT_THAT(parse_options(any).notes, ElementsAre(HasSubstr("no such file")));
}

TEST(Logger, WordsAreThePathThenKeysAndFirstValues) {
  const auto words = logger_words("binary:///usr/bin/my%20log?a=1&b=x+y%26&a=2&flag");
  ASSERT_TRUE(words.has_value()) << words.error().what();
  EXPECT_THAT(*words, ElementsAre("/usr/bin/my log", "a", "1", "b", "x y&", "flag", ""));
  const auto relative = logger_words("binary://log");
  ASSERT_FALSE(relative.has_value());
  EXPECT_THAT(relative.error().what(), HasSubstr("must be absolute"));
}

TEST(Status, EveryClassHasItsCode) {
  const auto code = [](Errc errc) {
    return static_cast<int>(ttrpc::to_status(Error(errc, "x")).code);
  };
  EXPECT_EQ(code(Errc::kInvalid), 3);
  EXPECT_EQ(code(Errc::kNotFound), 5);
  EXPECT_EQ(code(Errc::kExists), 6);
  EXPECT_EQ(code(Errc::kPrecondition), 9);
  EXPECT_EQ(code(Errc::kUnsupported), 12);
  EXPECT_EQ(code(Errc::kInternal), 13);
  EXPECT_EQ(code(Errc::kSystem), 2);
}

}  // namespace
}  // namespace amphora::shim
