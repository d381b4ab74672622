// SPDX-License-Identifier: Apache-2.0
// The walk by hand beside the kernel's openat2: the same answers for the same paths, and no way out of
// the root while a racer exchanges a directory for a link.
#include "executor/base/resolve.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "executor/base/fd.h"
#include "executor/base/sys.h"

namespace amphora {
namespace {

struct TestKernel {
  template <class... Args>
  static long call(long number, Args... args) noexcept {
    const long result = ::syscall(number, args...);
    return result < 0 ? -long{errno} : result;
  }
};

constexpr uint64_t kInRoot = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
constexpr uint64_t kOrdinary = kInRoot | RESOLVE_NO_SYMLINKS;
constexpr uint64_t kBeneath = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

class ByHand : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-resolve-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    for (const char* directory : {"/root", "/root/a", "/root/a/b", "/root/a/b/c", "/outside"}) {
      ASSERT_TRUE(std::filesystem::create_directory(top_ + directory));
    }
    put("/root/file");
    put("/root/a/file");
    put("/outside/secret");
    link("/a", "abs");
    link("a/b", "rel");
    link("../../../../../outside", "escape");
    link(top_ + "/outside", "escape-abs");
    link("loop", "loop");
    link("file", "to-file");
    link("nowhere", "dangling");
    link("a/../a/./b/../file", "winding");
    link("rel/../../file", "through");
    root_ = UniqueFd(open((top_ + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(root_);
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  void put(const std::string& name) const {
    const UniqueFd fd(open((top_ + name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ASSERT_TRUE(fd) << name;
  }
  void link(const std::string& to, const std::string& name) const {
    ASSERT_EQ(symlink(to.c_str(), (top_ + "/root/" + name).c_str()), 0) << name;
  }

  std::string top_;
  UniqueFd root_;
};

/// What an open led to: an inode, or the reason why not.
std::string outcome(long fd) {
  if (fd < 0) return strerror(static_cast<int>(-fd));
  const UniqueFd held(static_cast<int>(fd));
  struct stat st{};
  if (fstat(held.get(), &st) != 0) return "fstat";
  return std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino) + " " +
         std::to_string(fcntl(held.get(), F_GETFL) & (O_PATH | O_ACCMODE)) +
         ((fcntl(held.get(), F_GETFD) & FD_CLOEXEC) != 0 ? "" : " not close-on-exec");
}

void compare(int root, const std::string& path) {
  for (const uint64_t how : {kInRoot, kOrdinary, kBeneath}) {
    for (const int open_flags :
         {O_PATH, O_RDONLY | O_NONBLOCK, O_PATH | O_DIRECTORY, O_RDONLY | O_DIRECTORY,
          O_PATH | O_NOFOLLOW, O_RDONLY | O_NOFOLLOW, O_WRONLY | O_CREAT | O_EXCL}) {
      if ((open_flags & O_CREAT) != 0 && path != "file" && path != "/a/file") continue;
      const auto flags = static_cast<uint64_t>(open_flags | O_CLOEXEC);
      const uint64_t mode = (open_flags & O_CREAT) != 0 ? 0600 : 0;
      const int kernel = sys::openat2(root, path.c_str(), flags, mode, how);
      const std::string want = outcome(kernel < 0 ? -long{errno} : kernel);
      const std::string got =
          outcome(ResolveByHand<TestKernel>(root, how).open(path.c_str(), flags, mode));
      EXPECT_EQ(got, want) << "path \"" << path << "\", how " << how << ", flags " << open_flags;
    }
  }
}

TEST_F(ByHand, AnswersAsTheKernelDoes) {
  for (const char* path : {"",
                           ".",
                           "..",
                           "/",
                           "//",
                           "/..",
                           "../..",
                           "a",
                           "/a",
                           "a/",
                           "a//b",
                           "a/.",
                           "a/..",
                           "a/b/c/..",
                           "a/b/../../file",
                           "file",
                           "file/",
                           "file/.",
                           "file/..",
                           "file/x",
                           "nowhere",
                           "nowhere/x",
                           "a/nowhere",
                           "abs",
                           "abs/",
                           "abs/b",
                           "abs/file",
                           "rel",
                           "rel/c",
                           "rel/..",
                           "rel/../file",
                           "escape",
                           "escape/secret",
                           "escape-abs",
                           "escape-abs/secret",
                           "loop",
                           "loop/x",
                           "to-file",
                           "to-file/",
                           "dangling",
                           "dangling/x",
                           "winding",
                           "through",
                           "/a/../../..//./a/b",
                           "../../../../../../../etc/passwd"}) {
    compare(root_.get(), path);
  }
  compare(root_.get(), std::string(5000, 'x'));
  compare(root_.get(), std::string(300, 'x') + "/a");
}

TEST_F(ByHand, ObjectsBehindProcfsLinksAreRefused) {
  const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (const char* path :
       {"proc/self/root", "proc/self/cwd", "proc/self/exe", "proc/self/fd/0", "proc/self/ns/mnt",
        "proc/self/root/etc", "proc/self/status", "proc/mounts", "proc/thread-self/comm"}) {
    compare(root.get(), path);
    compare(proc.get(), path + 5);
  }
}

TEST_F(ByHand, MountsAreNotCrossedWhereThatIsRefused) {
  const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  compare(root.get(), "proc");
  compare(root.get(), "proc/version");
}

TEST_F(ByHand, AMountainOfDotsIsCutShort) {
  std::string path;
  for (int i = 0; i < 1000; ++i) path += "a/../";
  EXPECT_EQ(outcome(ResolveByHand<TestKernel>(root_.get(), kInRoot).open(path.c_str(), O_PATH, 0)),
            std::string(strerror(ENAMETOOLONG)));
  // Links that hold such paths, one behind the other.
  std::string deep;
  for (int i = 0; i < 680; ++i) deep += "a/../";
  for (int i = 0; i < 30; ++i) link(deep + "l" + std::to_string(i + 1), "l" + std::to_string(i));
  EXPECT_EQ(outcome(ResolveByHand<TestKernel>(root_.get(), kInRoot).open("l0", O_PATH, 0)),
            std::string(strerror(ELOOP)));
}

TEST_F(ByHand, ARacerLeadsNowhereElse) {
  struct stat secret{};
  ASSERT_EQ(stat((top_ + "/outside/secret").c_str(), &secret), 0);
  ASSERT_EQ(symlink((top_ + "/outside").c_str(), (top_ + "/root/swap").c_str()), 0);
  const std::string one = top_ + "/root/a/b";
  const std::string other = top_ + "/root/swap";
  std::atomic<bool> stop = false;
  std::thread racer([&] {
    while (!stop) renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
  });
  int opened = 0;
  for (int i = 0; i < 3000; ++i) {
    for (const char* path : {"a/b/secret", "a/b/c/../../b/secret"}) {
      const UniqueFd fd(static_cast<int>(
          ResolveByHand<TestKernel>(root_.get(), kInRoot).open(path, O_PATH | O_CLOEXEC, 0)));
      EXPECT_FALSE(fd) << "it led out of the root";
    }
    const UniqueFd fd(static_cast<int>(
        ResolveByHand<TestKernel>(root_.get(), kInRoot).open("a/b", O_PATH | O_CLOEXEC, 0)));
    opened += fd ? 1 : 0;
  }
  stop = true;
  racer.join();
  EXPECT_GT(opened, 0) << "the directory was never there: no race was run";
}

}  // namespace
}  // namespace amphora
