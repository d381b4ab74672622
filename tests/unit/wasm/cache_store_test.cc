// SPDX-License-Identifier: Apache-2.0
// The cache with a store beside it (containerd's, here a map): what the store gives is used only if it is
// what we wrote, and what it does not take or keep is no failure.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "wasm/cache.h"

namespace amphora::wasm {
namespace {

UniqueFd memory(const std::string& text) {
  UniqueFd fd(sys::memfd_create("made", MFD_CLOEXEC));
  EXPECT_TRUE(write_all(fd.get(), text).has_value());
  EXPECT_EQ(::fchmod(fd.get(), 0400), 0);
  return fd;
}

std::string text_of(int fd) {
  std::string text(1 << 12, '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

class Store : public detect::ArtifactStore {
 public:
  std::string name() const override { return "there"; }
  std::string module_digest() const override { return ""; }
  Result<UniqueFd> read_module() override { return memory("module"); }
  Result<UniqueFd> read_library(size_t) override { return memory("library"); }
  UniqueFd find(const std::string& digest) override {
    const auto at = blobs.find(digest);
    return at == blobs.end() ? UniqueFd() : memory(at->second);
  }
  Result<UniqueFd> keep(const std::string&, const std::string& digest, int artifact) override {
    if (full) return fail(Errc::kSystem, "full");
    blobs.try_emplace(digest, text_of(artifact));
    return find(digest);
  }
  std::map<std::string, std::string> blobs;
  bool full = false;
};

class CacheStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-cache-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    cache_ = Cache::open(root_ + "/cache", 1 << 20);
    ASSERT_EQ(cache_->problem(), "");
  }
  void TearDown() override {
    cache_.reset();
    ASSERT_EQ(std::system(("rm -rf '" + root_ + "'").c_str()), 0);
  }
  std::string get(const std::string& made, detect::ArtifactStore* store) {
    auto fd = cache_->get(
        "key",
        [&]() -> Result<UniqueFd> {
          ++makes_;
          return memory(made);
        },
        "words", store);
    EXPECT_TRUE(fd.has_value());
    return fd ? text_of(fd->get()) : "";
  }
  bool exists(const std::string& name) const {
    return ::access((root_ + "/cache/" + name).c_str(), F_OK) == 0;
  }
  std::string root_;
  std::unique_ptr<Cache> cache_;
  Store store_;
  int makes_ = 0;
};

TEST_F(CacheStoreTest, BytesAreInTheStoreAndTheRecordIsOurs) {
  EXPECT_EQ(get("code", &store_), "code");
  EXPECT_EQ(get("other", &store_), "code");
  EXPECT_EQ(makes_, 1);
  EXPECT_EQ(store_.blobs.size(), 1U);
  EXPECT_TRUE(exists("key-there.rec"));
  EXPECT_FALSE(exists("key.art"));
  ASSERT_EQ(cache_->entries().size(), 1U);
  EXPECT_EQ(cache_->entries()[0].label, "words");
}

TEST_F(CacheStoreTest, WhatTheStoreHasLostIsMadeAgain) {
  get("code", &store_);
  store_.blobs.clear();
  EXPECT_EQ(get("code", &store_), "code");
  EXPECT_EQ(makes_, 2);
  EXPECT_EQ(store_.blobs.size(), 1U);
}

TEST_F(CacheStoreTest, WhatTheStoreHasChangedIsNeverHandedOut) {
  get("code", &store_);
  store_.blobs.begin()->second = "evil";
  EXPECT_EQ(get("code", &store_), "code");
  EXPECT_EQ(makes_, 2);
  EXPECT_GE(cache_->counts().refused.load(), 1U);
  // The store keeps the bad one under that name: from now on it is in our own directory.
  EXPECT_TRUE(exists("key.art"));
  EXPECT_EQ(get("code", &store_), "code");
  EXPECT_EQ(makes_, 2);
}

TEST_F(CacheStoreTest, WhatIsThereBeforeUsIsReadThrough) {
  // Somebody has put a blob where ours will be.
  get("code", &store_);
  const std::string digest = store_.blobs.begin()->first;
  cache_->remove("key-there");
  store_.blobs[digest] = "evil";
  EXPECT_EQ(get("code", &store_), "code");
}

TEST_F(CacheStoreTest, WhatTheStoreDoesNotTakeIsKeptHere) {
  store_.full = true;
  EXPECT_EQ(get("code", &store_), "code");
  EXPECT_TRUE(exists("key.art"));
  EXPECT_EQ(get("other", &store_), "code");
  EXPECT_EQ(makes_, 1);
}

TEST_F(CacheStoreTest, ARecordWhoseBytesAreElsewhereIsForgottenAfterAMonth) {
  const auto age = [&](const std::string& name) {
    const struct timespec then{::time(nullptr) - 31 * 86400, 0};
    const struct timespec both[2] = {then, then};
    ASSERT_EQ(::utimensat(AT_FDCWD, (root_ + "/cache/" + name).c_str(), both, 0), 0);
  };
  get("code", &store_);
  ASSERT_TRUE(exists("key-there.rec"));
  const auto other = [](const char* text) {
    return [text] { return Result<UniqueFd>(memory(text)); };
  };
  ASSERT_TRUE(cache_->get("own-key", other("own")).has_value());
  EXPECT_TRUE(exists("key-there.rec"));
  age("key-there.rec");
  age("own-key.rec");
  ASSERT_TRUE(cache_->get("one-more", other("more")).has_value());
  EXPECT_FALSE(exists("key-there.rec"));
  EXPECT_TRUE(exists("own-key.rec"));
}

TEST_F(CacheStoreTest, OneOfAFileServesAnImageToo) {
  EXPECT_EQ(get("code", nullptr), "code");
  EXPECT_EQ(get("other", &store_), "code");
  EXPECT_EQ(makes_, 1);
}

}  // namespace
}  // namespace amphora::wasm
