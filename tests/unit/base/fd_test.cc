// SPDX-License-Identifier: Apache-2.0
// Descriptors: ownership, opening beneath a root, small files, descriptors over sockets.
#include "executor/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }
bool is_cloexec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

/// A directory of the test's own, and a descriptor of it.
class Directory : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-fd-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    path_ = name;
    fd_ = UniqueFd(open(name, O_PATH | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(fd_);
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  void put(const std::string& name, const std::string& text) {
    const UniqueFd file(openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file) << name;
    ASSERT_EQ(write(file.get(), text.data(), text.size()), ssize_t(text.size()));
  }
  void link(const std::string& to, const std::string& name) {
    ASSERT_EQ(symlinkat(to.c_str(), fd_.get(), name.c_str()), 0) << name;
  }
  int dir() const { return fd_.get(); }

  std::string path_;

 private:
  UniqueFd fd_;
};

TEST(UniqueFd, ClosesOnceAndMoves) {
  int raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    UniqueFd a(raw);
    UniqueFd b(std::move(a));
    EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): that is the promise
    EXPECT_EQ(b.get(), raw);
    UniqueFd c;
    c = std::move(b);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
  raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
  UniqueFd d(raw);
  const int second = open("/dev/null", O_RDONLY | O_CLOEXEC);
  d.reset(second);
  EXPECT_FALSE(is_open(raw));
  EXPECT_EQ(d.release(), second);
  EXPECT_FALSE(d);
  EXPECT_TRUE(is_open(second));
  close(second);
}

TEST_F(Directory, OpenedIsCloseOnExec) {
  put("f", "x");
  EXPECT_TRUE(is_cloexec(open_at(dir(), "f", O_RDONLY)->get()));
  EXPECT_TRUE(is_cloexec(open_in_root(dir(), "f", O_RDONLY)->get()));
  EXPECT_TRUE(is_cloexec(open_beneath(dir(), "f", O_RDONLY)->get()));
  const auto fd = open_at(dir(), "f", O_RDONLY);
  EXPECT_TRUE(is_cloexec(duplicate(fd->get())->get()));
}

TEST_F(Directory, MissingFilesAreNamed) {
  const auto missing = open_at(dir(), "nope", O_RDONLY);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().what(), "open nope: no such file or directory");
  EXPECT_EQ(missing.error().sys_errno(), ENOENT);
  EXPECT_EQ(open_in_root(dir(), "a/b", O_RDONLY).error().what(),
            "open a/b: no such file or directory");
}

TEST_F(Directory, InRootEverythingStaysInside) {
  put("passwd", "inside");
  ASSERT_EQ(mkdirat(dir(), "etc", 0700), 0);
  link("/passwd", "absolute");
  link("../../../../passwd", "etc/up");
  for (const char* name : {"passwd", "/passwd", "../../passwd", "absolute", "etc/up"}) {
    const auto file = open_in_root(dir(), name, O_RDONLY);
    ASSERT_TRUE(file) << name << ": " << file.error().what();
    EXPECT_EQ(read_all(file->get()).value(), "inside") << name;
  }
}

TEST_F(Directory, InRootMagicLinksAreRefused) {
  const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const auto magic = open_in_root(root.get(), "proc/self/root/etc", O_PATH);
  ASSERT_FALSE(magic);
  EXPECT_EQ(magic.error().sys_errno(), ELOOP);
}

TEST_F(Directory, BeneathFollowsNoSymlinkAndNoWayOut) {
  put("f", "x");
  link("f", "link");
  EXPECT_TRUE(open_beneath(dir(), "f", O_RDONLY));
  EXPECT_EQ(open_beneath(dir(), "link", O_RDONLY).error().sys_errno(), ELOOP);
  EXPECT_EQ(open_beneath(dir(), "../f", O_RDONLY).error().sys_errno(), EXDEV);
  EXPECT_EQ(open_beneath(dir(), "/etc", O_RDONLY).error().sys_errno(), EXDEV);
}

TEST_F(Directory, OpenInRootCreatesWithMode) {
  const mode_t old = umask(0);
  EXPECT_TRUE(open_in_root(dir(), "made", O_WRONLY | O_CREAT, 0640));
  umask(old);
  struct stat info{};
  ASSERT_EQ(fstatat(dir(), "made", &info, 0), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640U);
}

TEST_F(Directory, FilesAreReadWholeUpToALimit) {
  const std::string text(100'000, 'x');
  put("big", text);
  EXPECT_EQ(read_file_at(dir(), "big").value(), text);
  EXPECT_EQ(read_file_at(dir(), "big", text.size()).value(), text) << "the limit itself is allowed";
  const auto more = read_file_at(dir(), "big", text.size() - 1);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().what(), "big: read: more than the allowed size");
  EXPECT_EQ(more.error().code(), Errc::kInvalid);
  put("empty", "");
  EXPECT_EQ(read_file_at(dir(), "empty").value(), "");
}

TEST_F(Directory, ReadAllReadsPipesToTheirEnd) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  std::thread writer([fd = ends[1]] {
    const UniqueFd writing(fd);
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(write_all(writing.get(), std::string(3000, 'a')));
  });
  EXPECT_EQ(read_all(reading.get()).value().size(), 150'000U);
  writer.join();
}

TEST_F(Directory, WriteFileNeitherCreatesNorTruncates) {
  put("value", "12345");
  EXPECT_TRUE(write_file_at(dir(), "value", "67"));
  EXPECT_EQ(read_file_at(dir(), "value").value(), "67345");
  const auto missing = write_file_at(dir(), "none", "1");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().what(), "open none: no such file or directory");
}

TEST_F(Directory, ReplaceIsWholeAndLeavesNothingElse) {
  EXPECT_TRUE(replace_file_at(dir(), "state", "one"));
  EXPECT_TRUE(replace_file_at(dir(), "state", "two", 0644));
  EXPECT_EQ(read_file_at(dir(), "state").value(), "two");
  ASSERT_EQ(mkdirat(dir(), "taken", 0700), 0);
  const auto refused = replace_file_at(dir(), "taken", "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what(), "rename .taken.new to taken: is a directory");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++entries;
  EXPECT_EQ(entries, 2U) << "no temporary file stays";
}

TEST_F(Directory, ReplaceDoesNotFollowAPlantedLink) {
  put("victim", "safe");
  link("victim", ".state.new");
  const auto refused = replace_file_at(dir(), "state", "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().sys_errno(), ELOOP);
  EXPECT_EQ(read_file_at(dir(), "victim").value(), "safe");
}

class Sockets : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    a_ = UniqueFd(ends[0]);
    b_ = UniqueFd(ends[1]);
  }
  UniqueFd a_, b_;
};

TEST_F(Sockets, DescriptorsTravelWithTheMessage) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const int fds[] = {writing.get(), b_.get()};
  ASSERT_TRUE(send_with_fds(a_.get(), "hello", fds));
  writing.reset();
  auto received = receive_with_fds(b_.get());
  ASSERT_TRUE(received) << received.error().what();
  EXPECT_EQ(received->data, "hello");
  ASSERT_EQ(received->fds.size(), 2U);
  for (const UniqueFd& fd : received->fds) EXPECT_TRUE(is_cloexec(fd.get()));
  EXPECT_TRUE(write_all(received->fds[0].get(), "through"));
  received->fds.clear();
  EXPECT_EQ(read_all(reading.get()).value(), "through");
}

TEST_F(Sockets, MostDescriptorsOfAMessage) {
  const std::vector<int> many(250, a_.get());
  ASSERT_TRUE(send_with_fds(a_.get(), "m", many));
  EXPECT_EQ(receive_with_fds(b_.get())->fds.size(), 250U);
}

TEST_F(Sockets, MessagesWithoutDescriptorsAndTheEnd) {
  ASSERT_TRUE(send_with_fds(a_.get(), "plain", {}));
  const auto received = receive_with_fds(b_.get());
  EXPECT_EQ(received->data, "plain");
  EXPECT_THAT(received->fds, IsEmpty());
  a_.reset();
  EXPECT_EQ(receive_with_fds(b_.get())->data, "");
  const auto refused = send_with_fds(b_.get(), "x", {});
  ASSERT_FALSE(refused) << "and no SIGPIPE";
  EXPECT_EQ(refused.error().what(), "send a message: broken pipe");
}

TEST_F(Sockets, ACutMessageIsAnErrorAndLeaksNothing) {
  const int fds[] = {a_.get()};
  ASSERT_TRUE(send_with_fds(a_.get(), "0123456789", fds));
  const int next = dup(0);
  close(next);
  const auto cut = receive_with_fds(b_.get(), 4);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().what(), "receive a message: it was cut");
  EXPECT_FALSE(is_open(next)) << "the descriptor that came with it";
}

TEST(Fd, DuplicateSaysWhatFailed) {
  const auto copy = duplicate(-1);
  ASSERT_FALSE(copy);
  EXPECT_THAT(copy.error().what(), HasSubstr("duplicate a descriptor: bad file descriptor"));
}

}  // namespace
}  // namespace amphora
