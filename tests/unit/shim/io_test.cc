// SPDX-License-Identifier: Apache-2.0
// Stdio: opening never waits, ends of files arrive when they should, what is unknown is refused.
#include "shim/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

using testing::HasSubstr;

class Io : public testing::Test {
 protected:
  std::string fifo(const std::string& name) {
    const std::string path = dir_ / name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0700), 0);
    return path;
  }
  std::unique_ptr<ProcessIo> open(const StdioUris& uris) {
    auto io = ProcessIo::open(uris, "web", "default", children_);
    EXPECT_TRUE(io.has_value()) << io.error().what();
    return io ? std::move(*io) : nullptr;
  }
  std::string refusal(const StdioUris& uris) {
    const auto io = ProcessIo::open(uris, "web", "default", children_);
    return io ? "no error" : io.error().what();
  }
  void finish(ProcessIo& io) {
    bool done = false;
    io.finish([&] { done = true; });
    EXPECT_TRUE(done);
  }

  test::ScratchDir dir_;
  Children children_;
  Loop loop_;
};

TEST_F(Io, FifosWithoutAnyClientOpenAtOnceAndTakeOutput) {
  auto io = open({fifo("in"), fifo("out"), fifo("err"), false});
  const Stdio payload = io->payload();
  EXPECT_EQ(::write(payload.fds[1], "early", 5), 5);
  // A client that comes late gets the first bytes, too.
  const UniqueFd reader(::open((dir_ / "out").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  char seen[16] = {};
  EXPECT_EQ(::read(reader.get(), seen, sizeof(seen)), 5);
  EXPECT_STREQ(seen, "early");
}

TEST_F(Io, FifosGetTheOwnerThatTheOptionsName) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may give files away";
  for (const Output output : {Output::kPassed, Output::kCopied}) {
    auto io = ProcessIo::open({"", fifo(output == Output::kPassed ? "a" : "b"), "", false}, "web",
                              "default", children_, output);
    ASSERT_TRUE(io.has_value());
    ASSERT_TRUE((*io)->give_to({200000, std::nullopt}).has_value());
    struct stat out{}, null{};
    ASSERT_EQ(::fstat((*io)->payload().fds[1], &out), 0);
    ASSERT_EQ(::fstat((*io)->payload().fds[0], &null), 0);
    EXPECT_EQ(out.st_uid, 200000U);
    EXPECT_EQ(out.st_gid, ::getegid());
    EXPECT_EQ(null.st_uid, 0U);  // the host's /dev/null is no FIFO of ours
  }
}

TEST_F(Io, PayloadEndsBlockAsOrdinaryFilesDo) {
  auto io = open({fifo("in"), fifo("out"), "", false});
  const Stdio payload = io->payload();
  for (const int fd : payload.fds) {
    EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(Io, TheClientSeesTheEndOnlyWhenTheProcessHasEnded) {
  auto io = open({"", fifo("out"), "", false});
  const UniqueFd reader(::open((dir_ / "out").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  UniqueFd container(::fcntl(io->payload().fds[1], F_DUPFD_CLOEXEC, 0));
  io->begin(loop_);
  container.reset();  // the process closed its stdout: a restarted client must still find a writer
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  finish(*io);
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0);
}

TEST_F(Io, OutputWaitsForAClientThatOpensItsEndAfterTheProcessHasEnded) {
  auto io = open({"", fifo("out"), fifo("err"), false});
  EXPECT_EQ(::write(io->payload().fds[1], "late", 4), 4);
  io->begin(loop_);
  finish(*io);
  EXPECT_FALSE(io->is_drained()) << "four bytes are in nobody's hands";
  const UniqueFd reader(::open((dir_ / "out").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  EXPECT_TRUE(io->is_drained()) << "stderr has no reader and nothing to read";
  char seen[16] = {};
  EXPECT_EQ(::read(reader.get(), seen, sizeof(seen)), 4);
  EXPECT_STREQ(seen, "late");
  EXPECT_TRUE(test::run_until(loop_, [&] { return ::read(reader.get(), seen, 1) == 0; }))
      << "and then its end";
}

TEST_F(Io, WithoutAReaderTheProcessGetsNoSigpipe) {
  ::signal(SIGPIPE, SIG_IGN);
  auto io = open({"", fifo("out"), "", false});
  const UniqueFd container(::fcntl(io->payload().fds[1], F_DUPFD_CLOEXEC, 0));
  io->begin(loop_);
  {
    const UniqueFd reader(::open((dir_ / "out").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  EXPECT_EQ(::write(container.get(), "x", 1), 1);
}

TEST_F(Io, StdinEndsWhenCloseIoAndTheClientHaveBothClosed) {
  auto io = open({fifo("in"), "", "", false});
  const UniqueFd container(::fcntl(io->payload().fds[0], F_DUPFD_CLOEXEC, 0));
  ::fcntl(container.get(), F_SETFL, O_NONBLOCK);
  io->begin(loop_);
  char buffer[8] = {};
  {
    const UniqueFd client(::open((dir_ / "in").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    ASSERT_EQ(::write(client.get(), "abc", 3), 3);
  }
  EXPECT_EQ(::read(container.get(), buffer, sizeof(buffer)), 3);
  EXPECT_EQ(::read(container.get(), buffer, 1), -1) << "a detaching client is not the end";
  io->close_stdin();
  io->close_stdin();
  EXPECT_EQ(::read(container.get(), buffer, 1), 0);
}

TEST_F(Io, NothingNamedIsDevNull) {
  auto io = open({});
  struct stat info{}, null{};
  ASSERT_EQ(::stat("/dev/null", &null), 0);
  for (const int fd : io->payload().fds) {
    ASSERT_EQ(::fstat(fd, &info), 0);
    EXPECT_EQ(info.st_rdev, null.st_rdev);
  }
}

TEST_F(Io, FilesAreAppendedTo) {
  const std::string path = dir_ / "logs/deep/out.log";
  auto io = open({"", "file://" + path + "?x=y", "file://" + path + "?x=y", false});
  const Stdio payload = io->payload();
  EXPECT_EQ(::write(payload.fds[1], "one ", 4), 4);
  EXPECT_EQ(::write(payload.fds[2], "two", 3), 3);
  EXPECT_EQ(read_file_at(AT_FDCWD, path).value_or("?"), "one two");
}

TEST_F(Io, UnknownSchemesAndMissingFifosAreRefusedByName) {
  EXPECT_THAT(refusal({"", "ttrpc+unix:///s?streaming_id=x", "", false}), HasSubstr("unsupported"));
  EXPECT_THAT(refusal({"", dir_ / "missing", "", false}), HasSubstr(dir_ / "missing"));
  EXPECT_THAT(refusal({"file:///x", "", "", false}), HasSubstr("stdin file:///x: unsupported"));
}

TEST_F(Io, WithATerminalAMissingStderrFifoIsIgnored) {
  open({fifo("in"), fifo("out"), dir_ / "missing", true});
}

TEST_F(Io, ALoggerGetsItsFdsItsTwoVariablesAndTheOutput) {
  const std::string script = dir_ / "logger";
  const std::string log = dir_ / "log";
  {
    const UniqueFd fd(::open(script.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    const std::string text =
        "#!/bin/sh\n{ echo \"$@\"; env | grep -c .; env | grep ^CONTAINER_; } > " + log +
        "\nexec 5>&-\ncat <&3 >> " + log + "\necho done >> " + log + "\n";
    ASSERT_TRUE(write_all(fd.get(), text).has_value());
  }
  auto io =
      open({"", "binary://" + script + "?key=value", "binary://" + script + "?key=value", false});
  ASSERT_NE(io, nullptr);
  EXPECT_EQ(::write(io->payload().fds[1], "output\n", 7), 7);
  io->begin(loop_);
  finish(*io);
  std::string text;
  EXPECT_TRUE(test::run_until(loop_, [&] {
    text = read_file_at(AT_FDCWD, log).value_or("");
    return text.ends_with("done\n");
  })) << text;
  EXPECT_THAT(text, HasSubstr("key value\n"));
  EXPECT_THAT(text, HasSubstr("CONTAINER_ID=web\n"));
  EXPECT_THAT(text, HasSubstr("CONTAINER_NAMESPACE=default\n"));
  EXPECT_THAT(text, HasSubstr("output\ndone\n"));
  io.reset();
  children_.reap_orphans();
}

TEST_F(Io, ALoggerThatIsMissingOrNeverReadyFailsTheOpening) {
  EXPECT_THAT(refusal({"", "binary:///no/such/logger", "", false}), HasSubstr("/no/such/logger"));
  EXPECT_THAT(refusal({"", "binary-v2:///bin/true", "", false}),
              HasSubstr("ended without being ready"));
  EXPECT_TRUE(test::run_until(loop_, [&] { return !children_.reap_orphans().empty(); }));
}

}  // namespace
}  // namespace amphora::shim
