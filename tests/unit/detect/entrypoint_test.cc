// SPDX-License-Identifier: Apache-2.0
// Names and PATH, files that cannot be read, and how many system calls a lookup may need.
#include "detect/entrypoint.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "detect/detect.h"

namespace amphora::detect {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

oci::Process process(std::vector<std::string> env, std::string cwd = "/srv") {
  oci::Process out;
  out.env = std::move(env);
  out.cwd = std::move(cwd);
  out.args = {"x"};
  return out;
}

TEST(CandidatePaths, FollowPathAndCwd) {
  EXPECT_THAT(candidate_paths(process({"PATH=/a:/b/"}), "x"), ElementsAre("/a/x", "/b/x"));
  EXPECT_THAT(candidate_paths(process({"PATH=:rel"}), "x"), ElementsAre("/srv/x", "/srv/rel/x"));
  EXPECT_THAT(candidate_paths(process({"PATH="}), "x"), ElementsAre("/srv/x"));
  EXPECT_THAT(candidate_paths(process({"PATH=/a"}), "./x"), ElementsAre("/srv/./x"));
  EXPECT_THAT(candidate_paths(process({"PATH=/a"}), "/x"), ElementsAre("/x"));
  EXPECT_THAT(candidate_paths(process({"PATH=/a"}, "/"), "d/x"), ElementsAre("/d/x"));
  EXPECT_THAT(candidate_paths(process({"PATH=/a"}), ""), ElementsAre());
}

TEST(CandidatePaths, AreBounded) {
  std::string path = "PATH=";
  for (int i = 0; i < 60000; ++i) path += "/a:";
  EXPECT_EQ(candidate_paths(process({path}), "x").size(), 256U);
  EXPECT_EQ(candidate_paths(process({path}), std::string(700000, 'x')).size(), 2U);
  EXPECT_EQ(candidate_paths(process({"PATH=:::"}, "/" + std::string(2000000, 'x')), "x").size(),
            1U);
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-entrypoint-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    fs::permissions(root_, fs::perms(0755));
    root_fd_.reset(::open(name, O_PATH | O_CLOEXEC));
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, std::string_view bytes, mode_t mode) {
    std::ofstream(root_ / path, std::ios::binary) << bytes;
    ASSERT_EQ(::chmod((root_ / path).c_str(), mode), 0);
  }

  fs::path root_;
  UniqueFd root_fd_;
  oci::Spec spec_;
};

TEST_F(Files, UnreadableFileIsNativeWithTheReason) {
  using namespace std::string_view_literals;
  write("app", "\0asm\x01\0\0\0"sv, 0111);
  auto p = process({}, "/");
  p.args = {"/app"};
  // Root reads everything, so the test gives its rights away in a child.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::geteuid() == 0 &&
        (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)) {
      _exit(2);
    }
    const auto verdict = detect(spec_, p, root_fd_.get(), nullptr);
    const bool right =
        verdict && verdict->kind == Kind::kNative && verdict->path == "/app" &&
        verdict->why_not == "whether /app is wasm is not known: open /app: permission denied";
    if (!right && verdict) ::dprintf(2, "got: %s\n", verdict->why_not.c_str());
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Files, EmptyArgumentsAreRefused) {
  oci::Process p;
  const auto verdict = detect(spec_, p, root_fd_.get(), nullptr);
  ASSERT_FALSE(verdict);
  EXPECT_EQ(verdict.error().code(), Errc::kInvalid);
  EXPECT_EQ(verdict.error().what(), "process.args: is empty");
}

TEST_F(Files, WatCheckIsAskedOnlyForWhatLooksLikeWat) {
  write("a", "hello", 0755);
  write("b", "(module)", 0644);
  int asked = 0;
  const WatCheck check = [&](int module) -> Result<void> {
    ++asked;
    EXPECT_EQ(::fcntl(module, F_GETFL) & O_ACCMODE, O_RDONLY);
    return {};
  };
  auto p = process({}, "/");
  p.args = {"/a"};
  auto verdict = detect(spec_, p, root_fd_.get(), check);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->kind, Kind::kNative);
  EXPECT_EQ(asked, 0);
  p.args = {"/b"};
  verdict = detect(spec_, p, root_fd_.get(), check);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->kind, Kind::kWasmText);
  EXPECT_EQ(asked, 1);
}

TEST_F(Files, ModuleIsTheFileAndCloseOnExec) {
  using namespace std::string_view_literals;
  write("app", "\0asm\x01\0\0\0"sv, 0644);
  auto p = process({}, "/");
  p.args = {"/app"};
  const auto verdict = detect(spec_, p, root_fd_.get(), nullptr);
  ASSERT_TRUE(verdict) << verdict.error().what();
  struct stat by_fd{}, by_name{};
  ASSERT_EQ(::fstat(verdict->module.get(), &by_fd), 0);
  ASSERT_EQ(::stat((root_ / "app").c_str(), &by_name), 0);
  EXPECT_EQ(by_fd.st_ino, by_name.st_ino);
  EXPECT_EQ(::fcntl(verdict->module.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(verdict->module.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST_F(Files, AReplacedFileIsNotOpened) {
  write("app", "one", 0644);
  File file{.path = "/app", .fd = UniqueFd(::open((root_ / "app").c_str(), O_PATH | O_CLOEXEC))};
  ASSERT_EQ(::fstat(file.fd.get(), &file.info), 0);
  fs::remove(root_ / "app");
  ASSERT_EQ(::mkfifo((root_ / "app").c_str(), 0644), 0);
  const auto fd = open_for_reading(file);  // the old inode, without waiting at the FIFO
  ASSERT_TRUE(fd) << fd.error().what();
  file.info.st_ino += 1;
  const auto other = open_for_reading(file);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().what(), "open /app: /proc/self/fd leads to another file");
}

TEST_F(Files, DeepPathsDoNotExhaustDescriptors) {
  oci::Mount mount;
  mount.destination = "/dev";
  mount.type = "tmpfs";
  auto view = View::make(root_fd_.get(), AT_FDCWD, std::span(&mount, 1), false);
  ASSERT_TRUE(view);
  fs::create_symlink(".", root_ / "s");  // forces the walk
  std::string path = "/s";
  for (int i = 0; i < 300; ++i) {
    path += "/d";
  }
  fs::path deep = root_;
  for (int i = 0; i < 300; ++i) deep /= "d";
  fs::create_directories(deep);
  const auto found = view->lookup(path);
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().what(), HasSubstr("file name too long"));
  EXPECT_EQ(found.error().code(), Errc::kNotFound);
}

}  // namespace
}  // namespace amphora::detect
