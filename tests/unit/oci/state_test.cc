// SPDX-License-Identifier: Apache-2.0
// state.json there and back, old and new versions of it, the report byte for byte, container ids.
#include "executor/oci/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::oci {
namespace {

using testing::HasSubstr;

State example() {
  State state;
  state.id = "web";
  state.bundle = "/b";
  state.rootfs = "/b/rootfs";
  state.created = "2026-01-02T03:04:05.000000006Z";
  state.oci_version = "1.0.2";
  state.pid = 42;
  state.start_time = 18446744073709551615ULL;
  state.kind = "wasm-module";
  state.reason = "first bytes 00 61 73 6d 01 00 00 00: wasm module";
  state.cgroups_path = "/c";
  state.cgroup_dirs = {{"", "/u"}, {"memory", "/m"}};
  state.systemd_unit = "web.scope";
  state.own_pid_namespace = true;
  state.exit_code = 137;
  state.exited_at = "2026-01-02T03:04:06Z";
  state.poststop = {Hook{"/hook", {"hook", "a \"b\""}, {"A=\n"}, 3}, Hook{"/other", {}, {}, {}}};
  state.annotations = {{"k", "v"}, {"é", "<&>"}};
  return state;
}

TEST(State, SurvivesARoundTrip) {
  const auto state = example();
  const auto json = to_json(state);
  const auto read = parse_state(json);
  ASSERT_TRUE(read) << read.error().what();
  EXPECT_EQ(to_json(*read), json);
  EXPECT_EQ(read->start_time, state.start_time);
  EXPECT_EQ(read->cgroup_dirs, state.cgroup_dirs);
  EXPECT_EQ(read->annotations, state.annotations);
  EXPECT_EQ(read->exit_code, 137);
  EXPECT_EQ(read->kind, "wasm-module");
  EXPECT_TRUE(read->own_pid_namespace);
  ASSERT_EQ(read->poststop.size(), 2U);
  EXPECT_EQ(read->poststop[0].args[1], "a \"b\"");
  EXPECT_EQ(read->poststop[0].env[0], "A=\n");
  EXPECT_EQ(read->poststop[0].timeout, 3);
  EXPECT_FALSE(read->poststop[1].timeout);
}

TEST(State, OlderOnesHaveDefaultsAndUnknownMembersAreIgnored) {
  const auto state = parse_state(R"({"version": 1, "id": "a", "future": {"x": [1]}})");
  ASSERT_TRUE(state) << state.error().what();
  EXPECT_EQ(state->pid, 0);
  EXPECT_FALSE(state->exit_code);
  EXPECT_TRUE(state->poststop.empty());
}

TEST(State, NewerVersionsAndDamageAreRefused) {
  const auto newer = parse_state(R"({"version": 2, "id": "a"})");
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code(), Errc::kUnsupported);
  EXPECT_EQ(newer.error().what(), "state.json: version 2 is newer than 1, the newest known");
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "state.json: version: missing"},
      {R"({"version": 1})", "state.json: id: missing"},
      {R"({"version": 0, "id": "a"})", "state.json: version: 0 is not a version"},
      {R"({"version": 1, "id": "a", "pid": -1})", "state.json: pid: -1 is not a process id"},
      {R"({"version": 1, "id": "a", "poststop": [{}]})", "state.json: poststop[0].path: missing"},
  };
  for (const auto& [json, text] : cases) {
    const auto state = parse_state(json);
    ASSERT_FALSE(state) << json;
    EXPECT_EQ(state.error().what(), text);
  }
  const auto cut = parse_state(to_json(example()).substr(0, 60));
  ASSERT_FALSE(cut);
  EXPECT_THAT(cut.error().what(), HasSubstr("state.json: json: parse error at line 1"));
}

TEST(StateReport, IsRuncsByteForByte) {
  EXPECT_EQ(state_report_json(example(), Status::kRunning),
            "{\n"
            "  \"ociVersion\": \"1.0.2\",\n"
            "  \"id\": \"web\",\n"
            "  \"pid\": 42,\n"
            "  \"status\": \"running\",\n"
            "  \"bundle\": \"/b\",\n"
            "  \"rootfs\": \"/b/rootfs\",\n"
            "  \"created\": \"2026-01-02T03:04:05.000000006Z\",\n"
            "  \"annotations\": {\n"
            "    \"k\": \"v\",\n"
            "    \"é\": \"\\u003c\\u0026\\u003e\"\n"
            "  },\n"
            "  \"owner\": \"\"\n"
            "}");
}

TEST(StateReport, LeavesOutEmptyAnnotationsAndTheDeadPid) {
  auto state = example();
  state.annotations.clear();
  EXPECT_EQ(state_report_json(state, Status::kStopped),
            "{\n"
            "  \"ociVersion\": \"1.0.2\",\n"
            "  \"id\": \"web\",\n"
            "  \"pid\": 0,\n"
            "  \"status\": \"stopped\",\n"
            "  \"bundle\": \"/b\",\n"
            "  \"rootfs\": \"/b/rootfs\",\n"
            "  \"created\": \"2026-01-02T03:04:05.000000006Z\",\n"
            "  \"owner\": \"\"\n"
            "}");
}

TEST(HookState, HasTheSpecsMembers) {
  EXPECT_EQ(hook_state_json(example(), Status::kCreating, 7),
            "{\"ociVersion\":\"1.0.2\",\"id\":\"web\",\"status\":\"creating\",\"pid\":7,"
            "\"bundle\":\"/b\",\"annotations\":{\"k\":\"v\",\"é\":\"\\u003c\\u0026\\u003e\"}}");
  State bare;
  bare.id = "a";
  EXPECT_EQ(hook_state_json(bare, Status::kStopped, 0),
            "{\"ociVersion\":\"\",\"id\":\"a\",\"status\":\"stopped\",\"bundle\":\"\"}");
}

TEST(JsonText, EscapesAsGoDoes) {
  State state;
  state.id = "a";
  state.bundle = "\x01\t\n\r\"\\\x7f \xff \xed\xa0\x80 \xe2\x80\xa8 \xf0\x9f\x98\x80";
  EXPECT_THAT(hook_state_json(state, Status::kStopped, 0),
              HasSubstr("\"bundle\":\"\\u0001\\t\\n\\r\\\"\\\\\x7f \\ufffd \\ufffd\\ufffd\\ufffd "
                        "\\u2028 \xf0\x9f\x98\x80\""));
}

TEST(Status, HasTheSpecsNames) {
  EXPECT_STREQ(to_string(Status::kCreating), "creating");
  EXPECT_STREQ(to_string(Status::kCreated), "created");
  EXPECT_STREQ(to_string(Status::kRunning), "running");
  EXPECT_STREQ(to_string(Status::kPaused), "paused");
  EXPECT_STREQ(to_string(Status::kStopped), "stopped");
}

TEST(ContainerId, AcceptsRuncsAlphabet) {
  for (const auto& id :
       {std::string("a"), std::string("A-b_c+d.e9"), std::string("..."), std::string(1024, 'x')}) {
    EXPECT_TRUE(check_id(id)) << id;
  }
}

TEST(ContainerId, RefusesWhatIsNoFileName) {
  EXPECT_EQ(check_id("").error().what(), "container id: is empty");
  EXPECT_EQ(check_id(std::string(1025, 'x')).error().what(),
            "container id: longer than 1024 bytes");
  using namespace std::string_view_literals;
  for (const auto id : {"."sv, ".."sv, "a/b"sv, "a b"sv, "a\0"sv, "é"sv, "a\n"sv}) {
    const auto checked = check_id(id);
    ASSERT_FALSE(checked) << id;
    EXPECT_EQ(checked.error().code(), Errc::kInvalid);
    EXPECT_THAT(checked.error().what(), HasSubstr("only letters, digits and _ + - . are allowed"));
  }
}

}  // namespace
}  // namespace amphora::oci
