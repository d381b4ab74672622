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
#include "shim/toml.h"

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

/// As one line: each key with its string, its boolean, or nothing.
std::string top_level(const std::string& text) {
  const auto read = read_toml(text);
  if (!read) return "error: " + read.error().what();
  std::string out;
  for (const TomlEntry& entry : *read) {
    out += entry.key;
    if (const auto* string = std::get_if<std::string>(&entry.value)) out += "='" + *string + "'";
    if (const auto* boolean = std::get_if<bool>(&entry.value)) out += *boolean ? "=true" : "=false";
    out += ' ';
  }
  return out;
}

TEST(Toml, TopLevel) {
  EXPECT_EQ(top_level(""), "");
  EXPECT_EQ(top_level("\xef\xbb\xbf# \xc3\xa4\r\n\r\na = true # yes\r\n b=\"x\""), "a=true b='x' ");
  EXPECT_EQ(top_level("\"a b\" = 'c\\d'\n'e' . f = 1\ne.g = 2"), "a b='c\\d' e ");
  EXPECT_EQ(top_level("s = \"\\t\\\"\\\\\\u00e4\\U0001F600\""),
            "s='\t\"\\\xc3\xa4\xf0\x9f\x98\x80' ");
  EXPECT_EQ(top_level("s = \"\"\"\na\"\"b \\\n  c\"\"\"\nt = '''\n\\d''''"),
            "s='a\"\"b c' t='\\d'' ");
  EXPECT_EQ(top_level("a = [1, 'x]', # ]\n [true], { b = \"}\", c.d = 2 } ,\n]\nd = {}"), "a d ");
  EXPECT_EQ(top_level("n = -1_0\nf = 6.6e-3\nt = 1979-05-27 07:32:00Z\ni = +inf"), "n f t i ");
  EXPECT_EQ(top_level("a = 1\n[x.y]\na = 2\n[[z]]\n[x . \"w\"]\nb = true"), "a x z ");
}

TEST(Toml, WhatIsNoneIsNamedByItsLine) {
  for (const char* text : {"a",
                           "a =",
                           "a = yes",
                           "a = 1 2 ]",
                           "= 1",
                           "a.= 1",
                           "a = \"x",
                           "a = \"x\ny\"",
                           "a = \"\\q\"",
                           "a = \"\\ud800\"",
                           "a = \"\\U00110000\"",
                           "a = [1",
                           "a = [1 'x']",
                           "a = { b }",
                           "a = {b = 1,}",
                           "[a",
                           "[[a]",
                           "[.a]",
                           "[]",
                           "a = true b",
                           "a = true\na = false",
                           "a = true\n[a]",
                           "c\xd0\xbf = 3",
                           "a = \x01",
                           "a = 'x\x01'"}) {
    EXPECT_THAT(top_level(text), testing::StartsWith("error: line ")) << text;
  }
  EXPECT_THAT(top_level("a = 1\n\nb ="), HasSubstr("line 3"));
  EXPECT_THAT(top_level("a = " + std::string(10000, '[')), HasSubstr("nested too deeply"));
  EXPECT_EQ(top_level("a = " + std::string(10, '[') + std::string(10, ']')), "a ");
}

TEST(Options, FileOfOptionsIsRead) {
  runtimeoptions::v1::Options options;
  options.set_config_path("/nonexistent/options.toml");
  proto::Any any;
  any.set_type_url("runtimeoptions.v1.Options");
  any.set_value(options.SerializeAsString());
  EXPECT_THAT(parse_options(any).notes, ElementsAre(HasSubstr("no such file")));
}

TEST(CheckpointOptions, EachIsTaken) {
  containerd::runc::v1::CheckpointOptions asked;
  proto::Any any;
  std::vector<std::string> notes;
  auto plain = parse_checkpoint_options(any, "/images", notes);
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(plain->image_path, "/images");
  EXPECT_TRUE(plain->leave_running);
  asked.set_exit(true);
  asked.set_open_tcp(true);
  asked.set_external_unix_sockets(true);
  asked.set_terminal(true);
  asked.set_file_locks(true);
  asked.add_empty_namespaces("network");
  asked.set_cgroups_mode("soft");
  asked.set_image_path("/elsewhere");
  asked.set_work_path("/work");
  asked.set_parent_path("../before");
  any.set_type_url("containerd.runc.v1.CheckpointOptions");
  any.set_value(asked.SerializeAsString());
  auto all = parse_checkpoint_options(any, "", notes);
  ASSERT_TRUE(all.has_value()) << all.error().what();
  EXPECT_FALSE(all->leave_running);
  EXPECT_TRUE(all->tcp_established && all->external_unix_sockets && all->shell_job &&
              all->file_locks);
  EXPECT_NE(all->empty_namespaces, 0U);
  EXPECT_EQ(all->cgroups, criu::CgroupsMode::kSoft);
  EXPECT_EQ(all->image_path, "/elsewhere");
  EXPECT_EQ(all->work_path, "/work");
  EXPECT_EQ(all->parent_path, "../before");
  EXPECT_EQ(parse_checkpoint_options(any, "/images", notes)->image_path, "/images");
  EXPECT_TRUE(notes.empty());
}

TEST(CheckpointOptions, WhatIsWrongIsNamed) {
  proto::Any any;
  std::vector<std::string> notes;
  const auto error = [&](const std::string& path) {
    auto parsed = parse_checkpoint_options(any, path, notes);
    return parsed ? "" : parsed.error().what();
  };
  EXPECT_THAT(error(""), HasSubstr("must be absolute"));
  any.set_type_url("some.Other");
  EXPECT_EQ(error("/images"), "");
  EXPECT_THAT(notes, ElementsAre(HasSubstr("some.Other are unknown")));
  containerd::runc::v1::CheckpointOptions asked;
  any.set_type_url(asked.GetTypeName());
  any.set_value("\xff\xff");
  EXPECT_THAT(error("/images"), HasSubstr("cannot be decoded"));
  asked.set_cgroups_mode("some");
  any.set_value(asked.SerializeAsString());
  EXPECT_THAT(error("/images"), HasSubstr("some: invalid manage-cgroups-mode"));
  asked.set_cgroups_mode("");
  asked.add_empty_namespaces("ipc");
  any.set_value(asked.SerializeAsString());
  EXPECT_THAT(error("/images"), HasSubstr("\"ipc\""));
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
