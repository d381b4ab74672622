// SPDX-License-Identifier: Apache-2.0
// Log lines byte for byte: containerd and podman take the last JSON line apart, people grep the text.
#include "executor/cli/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/base/fd.h"

namespace amphora::cli {
namespace {

constexpr char kTime[] = "2026-11-23T00:12:16Z";

TEST(LogLine, TextQuotesWhatIsMoreThanAWord) {
  EXPECT_EQ(text_line(Level::kError, kTime, "container does not exist"),
            "time=\"2026-11-23T00:12:16Z\" level=error msg=\"container does not exist\"");
  EXPECT_EQ(text_line(Level::kWarning, kTime, "plain/word-1.0@x^y+z_"),
            "time=\"2026-11-23T00:12:16Z\" level=warning msg=plain/word-1.0@x^y+z_");
  EXPECT_EQ(text_line(Level::kDebug, kTime, ""),
            "time=\"2026-11-23T00:12:16Z\" level=debug msg=\"\"");
}

TEST(LogLine, TextStaysOneLine) {
  EXPECT_EQ(text_line(Level::kInfo, kTime, "a \"b\" \\ c\nd\te\x01"),
            "time=\"2026-11-23T00:12:16Z\" level=info msg=\"a \\\"b\\\" \\\\ c\\nd\\te\\x01\"");
}

TEST(LogLine, JsonHasRuncsMembersInOrder) {
  EXPECT_EQ(json_line(Level::kError, kTime, "a \"b\"\nc"),
            R"({"level":"error","msg":"a \"b\"\nc","time":"2026-11-23T00:12:16Z"})");
}

class LogFile : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-log-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
  }
  void TearDown() override { unlink(path_.c_str()); }
  std::string path_;
};

TEST_F(LogFile, FatalGoesToTheFileAndPlainlyToStderr) {
  Log log({path_, /*json=*/true, /*debug=*/false});
  ASSERT_TRUE(log.open());
  ::testing::internal::CaptureStderr();
  log.debug("unseen");
  log.warning("seen");
  log.fatal("the reason");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "the reason\n");
  const auto text = read_file_at(AT_FDCWD, path_);
  ASSERT_TRUE(text);
  EXPECT_EQ(text->find("unseen"), std::string::npos) << *text;
  EXPECT_NE(text->find("{\"level\":\"warning\",\"msg\":\"seen\",\"time\":\""), std::string::npos)
      << *text;
  EXPECT_NE(text->find("{\"level\":\"error\",\"msg\":\"the reason\",\"time\":\""),
            std::string::npos)
      << *text;
}

TEST_F(LogFile, IsAppendedTo) {
  for (int i = 0; i < 2; ++i) {
    Log log({path_, /*json=*/false, /*debug=*/true});
    ASSERT_TRUE(log.open());
    log.debug("again");
  }
  const auto text = read_file_at(AT_FDCWD, path_);
  ASSERT_TRUE(text);
  size_t lines = 0;
  for (size_t at = text->find("level=debug msg=again\n"); at != std::string::npos;
       at = text->find("level=debug msg=again\n", at + 1)) {
    ++lines;
  }
  EXPECT_EQ(lines, 2U) << *text;
}

TEST(Log, WrongFileIsKnownBeforeAnythingIsDone) {
  Log log({"/nonexistent/log", false, false});
  const auto opened = log.open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().sys_errno(), ENOENT);
  EXPECT_NE(opened.error().what().find("/nonexistent/log"), std::string::npos);
}

TEST(Log, WithoutAFileStderrHasTheFormattedLineOnly) {
  Log log({"", false, false});
  ASSERT_TRUE(log.open());
  ::testing::internal::CaptureStderr();
  log.fatal("the reason");
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(text.starts_with("time=\"")) << text;
  EXPECT_TRUE(text.ends_with("level=error msg=\"the reason\"\n")) << text;
}

}  // namespace
}  // namespace amphora::cli
