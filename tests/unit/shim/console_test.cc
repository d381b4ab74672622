// SPDX-License-Identifier: Apache-2.0
// The pty copy on real ptys and pipes: nothing lost at the end, nobody waits for a slow client.
#include "shim/console.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <gtest/gtest.h>

#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

using test::run_until;

struct Pty {
  UniqueFd master, slave;
  Pty() : master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    ::grantpt(master.get());
    ::unlockpt(master.get());
    slave.reset(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    termios mode{};
    ::tcgetattr(slave.get(), &mode);
    ::cfmakeraw(&mode);
    ::tcsetattr(slave.get(), TCSANOW, &mode);
  }
};

struct Pipe {
  UniqueFd read, write;
  explicit Pipe(int size = 65536) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
    ::fcntl(write.get(), F_SETPIPE_SZ, size);
  }
  std::string take() {
    std::string out;
    char buffer[65536];
    for (ssize_t n = 0; (n = ::read(read.get(), buffer, sizeof(buffer))) > 0;) {
      out.append(buffer, static_cast<size_t>(n));
    }
    return out;
  }
};

TEST(Console, TheLastLineBeforeTheEndArrives) {
  for (int round = 0; round < 200; ++round) {
    Loop loop;
    Pty pty;
    Pipe out;
    Console console(loop, std::move(pty.master), UniqueFd(), std::move(out.write));
    ASSERT_EQ(::write(pty.slave.get(), "last line", 9), 9);
    pty.slave.reset();
    bool done = false;
    console.finish([&] { done = true; });
    ASSERT_TRUE(run_until(loop, [&] { return done; })) << "round " << round;
    EXPECT_EQ(out.take(), "last line") << "round " << round;
    EXPECT_TRUE(console.is_drained());
  }
}

TEST(Console, CopiesBothWaysAndResizes) {
  Loop loop;
  Pty pty;
  Pipe in, out;
  Console console(loop, std::move(pty.master), std::move(in.read), std::move(out.write));
  ASSERT_EQ(::write(in.write.get(), "typed", 5), 5);
  ::fcntl(pty.slave.get(), F_SETFL, O_NONBLOCK);
  char seen[16] = {};
  ASSERT_TRUE(run_until(loop, [&] { return ::read(pty.slave.get(), seen, sizeof(seen)) == 5; }));
  EXPECT_STREQ(seen, "typed");
  ASSERT_TRUE(console.resize(101, 33).has_value());
  winsize size{};
  ASSERT_EQ(::ioctl(pty.slave.get(), TIOCGWINSZ, &size), 0);
  EXPECT_EQ(size.ws_col, 101);
  EXPECT_EQ(size.ws_row, 33);
  ASSERT_EQ(::write(pty.slave.get(), "shown", 5), 5);
  std::string shown;
  EXPECT_TRUE(run_until(loop, [&] { return (shown += out.take()) == "shown"; })) << shown;
}

TEST(Console, ASlowReaderGetsEverythingAndDelaysTheEndOnlyShortly) {
  Loop loop;
  Pty pty;
  Pipe out(4096);
  Console console(loop, std::move(pty.master), UniqueFd(), std::move(out.write));
  ::fcntl(pty.slave.get(), F_SETFL, O_NONBLOCK);
  size_t written = 0;
  const std::string chunk(1000, 'c');
  // Fill every buffer on the way.
  for (int quiet = 0; quiet < 20; loop.restart(), loop.poll()) {
    const ssize_t n = ::write(pty.slave.get(), chunk.data(), chunk.size());
    quiet = n > 0 ? 0 : quiet + 1;
    written += n > 0 ? static_cast<size_t>(n) : 0;
  }
  pty.slave.reset();
  bool done = false;
  const auto begun = std::chrono::steady_clock::now();
  console.finish([&] { done = true; });
  ASSERT_TRUE(run_until(loop, [&] { return done; }));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(1));
  EXPECT_FALSE(console.is_drained());
  std::string all;
  ASSERT_TRUE(run_until(loop, [&] {
    all += out.take();
    return console.is_drained();
  }));
  all += out.take();
  EXPECT_GT(written, 4096U);
  EXPECT_EQ(all.size(), written);
}

TEST(Console, SomebodyWhoKeepsTheTerminalOpenIsNotWaitedFor) {
  Loop loop;
  Pty pty;
  Pipe out;
  Console console(loop, std::move(pty.master), UniqueFd(), std::move(out.write));
  ASSERT_EQ(::write(pty.slave.get(), "bye", 3), 3);
  bool done = false;
  console.finish([&] { done = true; });
  ASSERT_TRUE(run_until(loop, [&] { return done; }, std::chrono::seconds(2)));
  EXPECT_EQ(out.take(), "bye");
}

TEST(Console, AClientThatHangsUpStopsNothing) {
  Loop loop;
  Pty pty;
  Pipe out;
  ::signal(SIGPIPE, SIG_IGN);
  Console console(loop, std::move(pty.master), UniqueFd(), std::move(out.write));
  out.read.reset();
  for (int i = 0; i < 50; ++i) {
    ASSERT_GT(::write(pty.slave.get(), "to nobody", 9), 0);
    loop.restart();
    loop.poll();
  }
  pty.slave.reset();
  bool done = false;
  console.finish([&] { done = true; });
  EXPECT_TRUE(run_until(loop, [&] { return done; }));
}

}  // namespace
}  // namespace amphora::shim
