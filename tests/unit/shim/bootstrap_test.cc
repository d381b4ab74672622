// SPDX-License-Identifier: Apache-2.0
// `start`: both kinds of stdin, groups, sockets that live, died or are raced for, forms of reply.
#include "shim/bootstrap.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "bootstrap.pb.h"
#include "options.pb.h"
#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

Flags flags_of(const std::string& id) {
  Flags flags;
  flags.id = id;
  flags.name_space = "default";
  flags.address = "/run/containerd/containerd.sock";
  flags.publish_binary = "/usr/bin/containerd";
  return flags;
}

proto::Any runc_options() {
  containerd::runc::v1::Options options;
  options.set_root("/run/other");
  proto::Any any;
  any.set_type_url("containerd.runc.v1.Options");
  any.set_value(options.SerializeAsString());
  return any;
}

TEST(StartInput, AnOldAnyIsOptionsAndAPlainReply) {
  const auto input =
      parse_start_input(runc_options().SerializeAsString(), flags_of("web"), "/run/t.ttrpc");
  EXPECT_FALSE(input.wants_protobuf);
  EXPECT_EQ(input.options.root, "/run/other");
  EXPECT_EQ(input.ttrpc_address, "/run/t.ttrpc");
  EXPECT_EQ(input.grpc_address, "/run/containerd/containerd.sock");
  EXPECT_EQ(encode_reply(input, "unix:///s"), "unix:///s");
}

TEST(StartInput, NothingAndGarbageAreNoOptions) {
  for (const std::string& bytes :
       {std::string(), std::string("\xff\xfe garbage"), std::string(1000, '\0')}) {
    const auto input = parse_start_input(bytes, flags_of("web"), nullptr);
    EXPECT_FALSE(input.wants_protobuf);
    EXPECT_EQ(input.options.root, "");
    EXPECT_EQ(input.ttrpc_address, "");
  }
}

TEST(StartInput, BootstrapParamsWinOverFlags) {
  proto::BootstrapParams params;
  params.set_instance_id("web");
  params.set_namespace_("default");
  params.set_log_level(-4);
  params.set_containerd_ttrpc_address("unix:///run/new.ttrpc");
  params.set_containerd_grpc_address("/run/new.sock");
  params.set_socket_dir("/run/elsewhere");
  *params.add_extensions()->mutable_value() = runc_options();
  const auto input =
      parse_start_input(params.SerializeAsString(), flags_of("web"), "/run/old.ttrpc");
  EXPECT_TRUE(input.wants_protobuf);
  EXPECT_TRUE(input.debug);
  EXPECT_EQ(input.ttrpc_address, "/run/new.ttrpc");
  EXPECT_EQ(input.grpc_address, "/run/new.sock");
  EXPECT_EQ(input.socket_dir, "/run/elsewhere");
  EXPECT_EQ(input.options.root, "/run/other");
  proto::BootstrapResult reply;
  ASSERT_TRUE(reply.ParseFromString(encode_reply(input, "unix:///s")));
  EXPECT_EQ(reply.version(), 3);
  EXPECT_EQ(reply.address(), "unix:///s");
  EXPECT_EQ(reply.protocol(), "ttrpc");
}

TEST(StartInput, AnAnyIsNotTakenForParamsOfAnotherContainer) {
  proto::BootstrapParams params;
  params.set_instance_id("somebody-else");
  params.set_namespace_("default");
  EXPECT_FALSE(
      parse_start_input(params.SerializeAsString(), flags_of("web"), nullptr).wants_protobuf);
}

TEST(Group, OwnAnnotationThenRuncsThenThePods) {
  std::map<std::string, std::string> annotations;
  EXPECT_EQ(group_of(annotations, "web"), "web");
  annotations["io.kubernetes.cri.sandbox-id"] = "pod";
  EXPECT_EQ(group_of(annotations, "web"), "pod");
  annotations["io.containerd.runc.v2.group"] = "g2";
  EXPECT_EQ(group_of(annotations, "web"), "g2");
  annotations["io.containerd.amphora.v1.group"] = "g1";
  EXPECT_EQ(group_of(annotations, "web"), "g1");
}

TEST(SocketPath, DependsOnContainerdNamespaceAndGroupAndFits) {
  const Flags flags = flags_of("web");
  auto input = parse_start_input("", flags, nullptr);
  const std::string path = socket_path(input, flags, "pod");
  EXPECT_EQ(path, socket_path(input, flags, "pod"));
  EXPECT_NE(path, socket_path(input, flags, "pod2"));
  Flags other = flags;
  other.name_space = "k8s.io";
  EXPECT_NE(path, socket_path(input, other, "pod"));
  EXPECT_LE(path.size(), 106U);
  EXPECT_EQ(path.rfind(input.socket_dir + "/", 0), 0U);
}

TEST(Listen, TheSecondFindsTheFirst) {
  const test::ScratchDir dir;
  auto first = listen_or_find(dir / "s");
  ASSERT_TRUE(first.has_value()) << first.error().what();
  EXPECT_TRUE(static_cast<bool>(*first));
  struct stat info{};
  ASSERT_EQ(::stat((dir / "s").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  auto second = listen_or_find(dir / "s");
  ASSERT_TRUE(second.has_value()) << second.error().what();
  EXPECT_FALSE(static_cast<bool>(*second));
}

TEST(Listen, ADeadSocketIsReplaced) {
  const test::ScratchDir dir;
  {
    const auto gone = listen_or_find(dir / "s");
  }
  ASSERT_EQ(::access((dir / "s").c_str(), F_OK), 0);
  auto again = listen_or_find(dir / "s");
  ASSERT_TRUE(again.has_value()) << again.error().what();
  EXPECT_TRUE(static_cast<bool>(*again));
  remove_dead_socket(dir / "s");
  EXPECT_EQ(::access((dir / "s").c_str(), F_OK), 0) << "a living socket was removed";
  again->reset();
  remove_dead_socket(dir / "s");
  EXPECT_NE(::access((dir / "s").c_str(), F_OK), 0) << "a dead socket was left";
}

TEST(Listen, OfManyAtOnceOneListens) {
  const test::ScratchDir dir;
  {
    const auto stale = listen_or_find(dir / "s");
  }
  std::vector<UniqueFd> listeners(16);
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (auto& listener : listeners) {
    threads.emplace_back([&] {
      auto got = listen_or_find(dir / "s");
      if (!got) ++failures;
      if (got) listener = std::move(*got);
    });
  }
  for (auto& thread : threads) thread.join();
  int listening = 0;
  for (const auto& listener : listeners) listening += listener ? 1 : 0;
  EXPECT_EQ(listening, 1);
  EXPECT_EQ(failures, 0);
}

TEST(Listen, TooLongAPathSaysSo) {
  const auto listener = listen_or_find("/tmp/" + std::string(120, 'x'));
  ASSERT_FALSE(listener.has_value());
  EXPECT_NE(listener.error().what().find("longer than 106 bytes"), std::string::npos);
}

TEST(Retire, SomebodyWhoConnectsKeepsTheShim) {
  const test::ScratchDir dir;
  auto listener = listen_or_find(dir / "s");
  ASSERT_TRUE(listener.has_value());
  bool closed = false;
  const auto close = [&] {
    closed = true;
    listener->reset();
  };
  const UniqueFd peer = test::connect_to(dir / "s");
  EXPECT_FALSE(retire_listener(dir / "s", listener->get(), close));
  EXPECT_FALSE(closed);
  const UniqueFd accepted(::accept(listener->get(), nullptr, nullptr));
  EXPECT_TRUE(retire_listener(dir / "s", listener->get(), close));
  EXPECT_TRUE(closed);
  EXPECT_NE(::access((dir / "s").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace amphora::shim
