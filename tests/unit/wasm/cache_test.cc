// SPDX-License-Identifier: Apache-2.0
// The cache alone: finding, checking, publishing, sharing the work, bounding the size.
#include "wasm/cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"

namespace amphora::wasm {
namespace {

using ::testing::HasSubstr;

/// Longer than the cache's mistrust of fresh change times.
void let_the_clock_tick() { ::usleep(80000); }

UniqueFd memory(const std::string& text) {
  UniqueFd fd(sys::memfd_create("made", MFD_CLOEXEC));
  EXPECT_TRUE(write_all(fd.get(), text).has_value());
  return fd;
}

std::string text_of(int fd) {
  std::string text(1 << 16, '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

class CacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-cache-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    dir_ = root_ + "/cache";
    cache_ = Cache::open(dir_, 1 << 20);
    ASSERT_EQ(cache_->problem(), "");
  }
  void TearDown() override {
    cache_.reset();
    const std::string command = "rm -rf '" + root_ + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  std::string get(const std::string& key, const std::string& made) {
    auto fd = cache_->get(key, [&]() -> Result<UniqueFd> {
      ++makes_;
      return memory(made);
    });
    EXPECT_TRUE(fd.has_value()) << fd.error().what();
    return fd ? text_of(fd->get()) : "";
  }
  bool exists(const std::string& name) const {
    return ::access((dir_ + "/" + name).c_str(), F_OK) == 0;
  }

  std::string root_, dir_;
  std::unique_ptr<Cache> cache_;
  std::atomic<int> makes_{0};
};

TEST_F(CacheTest, SecondTimeNothingIsMade) {
  EXPECT_EQ(get("k1", "code"), "code");
  EXPECT_EQ(get("k1", "other"), "code");
  EXPECT_EQ(makes_, 1);
  EXPECT_FALSE(exists("k1.lock"));
}

TEST_F(CacheTest, UnchangedFileIsNotReadAgain) {
  get("k1", "code");
  let_the_clock_tick();
  get("k1", "");  // read through once more: the record of the publishing was fresh
  const uint64_t verified = cache_->counts().verified;
  get("k1", "");
  get("k1", "");
  EXPECT_EQ(cache_->counts().verified, verified);
  EXPECT_GE(cache_->counts().trusted, 2U);
}

TEST_F(CacheTest, TamperedArtifactIsRefusedAndMadeAgain) {
  get("k1", "code");
  let_the_clock_tick();
  get("k1", "");
  {
    const UniqueFd file(::open((dir_ + "/k1.art").c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), "C", 1, 0), 1);  // same inode, same size
  }
  EXPECT_EQ(get("k1", "fresh"), "fresh");
  EXPECT_EQ(cache_->counts().refused, 1U);
  EXPECT_EQ(makes_, 2);
}

TEST_F(CacheTest, TamperingInTheTickOfPublishingIsSeen) {
  get("k1", "code");
  const UniqueFd file(::open((dir_ + "/k1.art").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), "C", 1, 0), 1);
  EXPECT_EQ(get("k1", "fresh"), "fresh");
}

TEST_F(CacheTest, RestoredTimesDoNotHideAChange) {
  get("k1", "code");
  let_the_clock_tick();
  get("k1", "");
  struct stat before{};
  ASSERT_EQ(::stat((dir_ + "/k1.art").c_str(), &before), 0);
  const UniqueFd file(::open((dir_ + "/k1.art").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), "C", 1, 0), 1);
  const struct timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::futimens(file.get(), times), 0);
  EXPECT_EQ(get("k1", "fresh"), "fresh");
}

TEST_F(CacheTest, TouchedButEqualFileIsKept) {
  get("k1", "code");
  ASSERT_EQ(::chmod((dir_ + "/k1.art").c_str(), 0400), 0);
  EXPECT_EQ(get("k1", "other"), "code");
  EXPECT_EQ(cache_->counts().refused, 0U);
}

TEST_F(CacheTest, ArtifactUnderAnotherKeyIsRefused) {
  get("k1", "one");
  ASSERT_EQ(::rename((dir_ + "/k1.art").c_str(), (dir_ + "/k2.art").c_str()), 0);
  ASSERT_EQ(::rename((dir_ + "/k1.rec").c_str(), (dir_ + "/k2.rec").c_str()), 0);
  EXPECT_EQ(get("k2", "two"), "two");
}

TEST_F(CacheTest, SymlinkIsNotFollowed) {
  get("k1", "code");
  ASSERT_EQ(::rename((dir_ + "/k1.art").c_str(), (root_ + "/elsewhere").c_str()), 0);
  ASSERT_EQ(::symlink((root_ + "/elsewhere").c_str(), (dir_ + "/k1.art").c_str()), 0);
  EXPECT_EQ(get("k1", "fresh"), "fresh");
}

TEST_F(CacheTest, ArtifactOfACrashedPublisherIsNotUsed) {
  // Renamed, but the record was never written.
  const UniqueFd half(::open((dir_ + "/k1.art").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::write(half.get(), "half", 4), 4);
  EXPECT_EQ(get("k1", "whole"), "whole");
}

TEST_F(CacheTest, ManyThreadsMakeItOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&] {
      auto fd = cache_->get("k1", [&]() -> Result<UniqueFd> {
        ++makes_;
        ::usleep(50000);
        return memory("code");
      });
      if (fd && text_of(fd->get()) == "code") ++right;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 32);
  EXPECT_EQ(makes_, 1);
  EXPECT_FALSE(exists("k1.lock"));
}

TEST_F(CacheTest, ManyProcessesMakeItOnce) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  std::vector<pid_t> pids;
  for (int i = 0; i < 16; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      auto cache = Cache::open(dir_, 1 << 20);
      auto fd = cache->get("k1", [&]() -> Result<UniqueFd> {
        [[maybe_unused]] const ssize_t n = ::write(pipe_fds[1], "m", 1);
        ::usleep(30000);
        return memory("code");
      });
      ::_exit(fd && text_of(fd->get()) == "code" ? 0 : 1);
    }
    pids.push_back(pid);
  }
  ::close(pipe_fds[1]);
  for (const pid_t pid : pids) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  char makers[64];
  EXPECT_EQ(::read(pipe_fds[0], makers, sizeof makers), 1);
  ::close(pipe_fds[0]);
}

TEST_F(CacheTest, WaitersMakeTheirOwnAtOnceWhenOneFails) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0}, wrong{0}, making{0};
  std::atomic<bool> together{false};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      auto fd = cache_->get("k1", [&]() -> Result<UniqueFd> {
        const int before = makes_++;
        if (++making > 1) together = true;
        if (before == 0) ::usleep(200000);
        // One after the other, the second would be alone for ever.
        for (int left = 500; before > 0 && !together && left > 0; --left) ::usleep(20000);
        --making;
        if (before < 3) return fail(Errc::kSystem, "out of memory");
        return memory("code");
      });
      ++(fd ? right : wrong);
      if (!fd) {
        EXPECT_EQ(fd.error().what(), "out of memory");
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 3);
  EXPECT_EQ(right, 5);
  EXPECT_TRUE(together);
  EXPECT_EQ(get("k1", "not asked again"), "code");
  EXPECT_FALSE(exists("k1.fail"));
}

TEST_F(CacheTest, WaitersFailAlikeWhenItIsTheModulesFault) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0}, coming{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      ++coming;
      auto fd = cache_->get("k1", [&]() -> Result<UniqueFd> {
        ++makes_;
        for (int left = 500; coming < 8 && left > 0; --left) ::usleep(20000);
        ::usleep(500000);
        return fail(Errc::kInvalid, "compile: unexpected end at offset 9");
      });
      if (!fd && fd.error().code() == Errc::kInvalid &&
          fd.error().what() == "compile: unexpected end at offset 9") {
        ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 8);
  EXPECT_EQ(makes_, 1);
  // Who asks afterwards is not told of the past: the engine may have been changed.
  ::usleep(100000);
  EXPECT_EQ(get("k1", "code"), "code");
}

TEST_F(CacheTest, LeastRecentlyUsedGoFirst) {
  const std::string big(400 << 10, 'x');
  get("a", big);
  ::usleep(20000);
  get("b", big);
  // "a" was used a moment ago, "b" two hours ago.
  struct timespec past[2] = {{0, UTIME_OMIT}, {::time(nullptr) - 7200, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir_ + "/b.rec").c_str(), past, 0), 0);
  past[1].tv_sec += 3600;
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir_ + "/a.rec").c_str(), past, 0), 0);
  get("a", "");  // found, and its use noted
  get("c", big);
  EXPECT_TRUE(exists("a.art"));
  EXPECT_FALSE(exists("b.art"));
  EXPECT_FALSE(exists("b.rec"));
  EXPECT_TRUE(exists("c.art"));
  EXPECT_EQ(cache_->counts().removed, 1U);
}

TEST_F(CacheTest, ArtifactLargerThanTheCacheStillWorks) {
  const std::string huge(3 << 20, 'x');
  auto fd = cache_->get("a", [&]() -> Result<UniqueFd> { return memory(huge); });
  ASSERT_TRUE(fd.has_value());
  struct stat file{};
  ASSERT_EQ(::fstat(fd->get(), &file), 0);
  EXPECT_EQ(file.st_size, 3 << 20);
}

TEST_F(CacheTest, DirectoryThatOthersMayWriteIsNotUsed) {
  ASSERT_EQ(::chmod(dir_.c_str(), 0777), 0);
  cache_ = Cache::open(dir_, 1 << 20);
  EXPECT_THAT(cache_->problem(), HasSubstr("others may write it"));
  EXPECT_EQ(get("k1", "code"), "code");
  EXPECT_EQ(get("k1", "code"), "code");
  EXPECT_EQ(makes_, 2);
}

TEST_F(CacheTest, MissingParentsAreMadeAndImpossibleOnesAreNoFailure) {
  cache_ = Cache::open(root_ + "/a/b/c", 1 << 20);
  EXPECT_EQ(cache_->problem(), "");
  cache_ = Cache::open("/dev/null/cache", 1 << 20);
  EXPECT_THAT(cache_->problem(), HasSubstr("cache /dev/null/cache: not a directory"));
  EXPECT_EQ(get("k1", "code"), "code");
}

TEST_F(CacheTest, EntriesAreListedAndTakenAway) {
  const auto produce = [&]() -> Result<UniqueFd> { return memory("code"); };
  ASSERT_TRUE(cache_->get("k1", produce, "wasmtime 1 /app.wasm").has_value());
  ASSERT_TRUE(cache_->get("k2", produce, std::string(300, 'x')).has_value());
  struct timespec past[2] = {{0, UTIME_OMIT}, {::time(nullptr) - 7200, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir_ + "/k2.rec").c_str(), past, 0), 0);
  const auto entries = cache_->entries();
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].key, "k1");
  EXPECT_EQ(entries[0].label, "wasmtime 1 /app.wasm");
  EXPECT_EQ(entries[0].size, 4U);
  EXPECT_EQ(entries[1].key, "k2") << "used longer ago";
  EXPECT_EQ(entries[1].label, std::string(95, 'x'));
  cache_->remove("k1");
  EXPECT_FALSE(exists("k1.art"));
  EXPECT_EQ(cache_->entries().size(), 1U);
}

TEST_F(CacheTest, NotesAreKept) {
  EXPECT_EQ(cache_->note("n"), "");
  cache_->set_note("n", std::string_view("a\0b", 3));
  EXPECT_EQ(cache_->note("n"), std::string("a\0b", 3));
}

}  // namespace
}  // namespace amphora::wasm
