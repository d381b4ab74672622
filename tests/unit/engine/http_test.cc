// SPDX-License-Identifier: Apache-2.0
// HTTP handlers on a listening socket of loopback: answers, failures of the guest, draining.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/driver.h"

namespace engine_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class Http : public ::testing::Test {
 protected:
  void SetUp() override {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    ASSERT_EQ(listen(listener_, 8), 0);
    socklen_t size = sizeof address_;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &size);
  }
  void TearDown() override { close(listener_); }

  int connected() const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
    return fd;
  }
  static std::string ask(int fd, std::string_view text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n") {
    EXPECT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size()));
    char answer[2000];
    const ssize_t n = recv(fd, answer, sizeof answer, 0);
    return std::string(answer, n > 0 ? static_cast<size_t>(n) : 0);
  }
  Job job(const std::string& text) const {
    return {.artifact = compile(text), .listen_fd = listener_};
  }

  int listener_ = -1;
  sockaddr_in address_{};
};

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos);
  return text.replace(at, what.size(), with);
}

TEST_F(Http, AnswersAndDrains) {
  Job what = job(read_file(guests_path("http.wat")));
  what.options = {"http-threads", "1"};
  what.meanwhile = [this](pid_t pid) {
    const int kept = connected();
    for (int i = 0; i < 3; i++) EXPECT_THAT(ask(kept), StartsWith("HTTP/1.1 202 "));
    kill(pid, SIGTERM);
    char byte;
    EXPECT_EQ(recv(kept, &byte, 1, 0), 0) << "an idle connection is closed by draining";
    close(kept);
  };
  const Result result = run(what);
  EXPECT_EQ(result.wait_status, 0);
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.threads, 1);
}

TEST_F(Http, SpeaksHttp2) {
  Job what = job(read_file(guests_path("http.wat")));
  what.meanwhile = [this](pid_t pid) {
    const int fd = connected();
    // The preface and an empty SETTINGS frame: the answer is a SETTINGS frame (type 4).
    using namespace std::string_view_literals;
    const std::string answer = ask(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"sv);
    ASSERT_GE(answer.size(), 9u);
    EXPECT_EQ(answer.substr(3, 1), "\x04");
    close(fd);
    kill(pid, SIGTERM);
  };
  EXPECT_EQ(run(what).exit_code, 0);
}

TEST_F(Http, ATrapIsA500AndTheServerGoesOn) {
  Job what = job(replaced(read_file(guests_path("http.wat")), "(drop (call $status",
                          "(unreachable) (drop (call $status"));
  what.meanwhile = [this](pid_t pid) {
    const int fd = connected();
    for (int i = 0; i < 2; i++) EXPECT_THAT(ask(fd), StartsWith("HTTP/1.1 500 "));
    close(fd);
    kill(pid, SIGTERM);
  };
  const Result result = run(what);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err,
              HasSubstr("amphora-wasm: wasm trap: wasm `unreachable` instruction executed\n"));
}

TEST_F(Http, MemoryIsGivenBackAfterARequest) {
  Job what = job(read_file(guests_path("http.wat")));
  what.memory_limit = 65536;  // one instance's
  // One thread: the instance of a request has gone when the next one is answered.
  what.options = {"http-threads", "1"};
  what.meanwhile = [this](pid_t pid) {
    const int fd = connected();
    for (int i = 0; i < 5; i++) EXPECT_THAT(ask(fd), StartsWith("HTTP/1.1 202 "));
    close(fd);
    kill(pid, SIGTERM);
  };
  EXPECT_EQ(run(what).exit_code, 0);
}

TEST_F(Http, WithoutASocket) {
  Job what = job(read_file(guests_path("http.wat")));
  what.listen_fd = -1;
  const Result result = run(what);
  EXPECT_EQ(result.load.code, AMPHORA_ERR_INVALID);
  EXPECT_EQ(result.load.text, "the component serves HTTP, but no listening socket was given");
}

TEST(Interrupt, EndsAGuestThatIsNoServer) {
  // The handler is installed for servers only, so the socket here is one nobody serves.
  const int idle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Job what{.artifact = compile("(func (export \"_start\") (loop $l (br $l)))"), .listen_fd = idle};
  what.meanwhile = [](pid_t pid) {
    usleep(200'000);
    kill(pid, SIGTERM);
  };
  const Result result = run(what);
  close(idle);
  EXPECT_TRUE(WIFEXITED(result.wait_status));
  EXPECT_EQ(WEXITSTATUS(result.wait_status), 128 + SIGTERM);
}

}  // namespace
}  // namespace engine_test
