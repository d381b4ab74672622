// SPDX-License-Identifier: Apache-2.0
// bench_load PORT SECONDS CONNECTIONS: asks a server on 127.0.0.1 for "/", one request after the other on
// each of so many kept connections, a thread each. Prints requests, seconds, and the 50th and 95th percentile
// of their times in microseconds; ends with 1 when an answer was not 200.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

double now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

int connect_to(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/// Whether a whole answer is there: by its length, or by its last chunk.
bool is_whole(std::string_view answer) {
  const size_t head = answer.find("\r\n\r\n");
  if (head == std::string_view::npos) return false;
  std::string lower(answer.substr(0, head));
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::string_view kLength = "content-length: ";
  if (const size_t at = lower.find(kLength); at != std::string::npos) {
    return answer.size() >=
           head + 4 + std::strtoul(lower.c_str() + at + kLength.size(), nullptr, 10);
  }
  return answer.ends_with("0\r\n\r\n");
}

struct Line {
  std::vector<double> times;
  bool good = true;
};

bool ask(int fd, std::string& answer) {
  answer.clear();
  if (write(fd, kRequest.data(), kRequest.size()) != static_cast<ssize_t>(kRequest.size()))
    return false;
  char buffer[16384];
  while (!is_whole(answer)) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) return false;
    answer.append(buffer, static_cast<size_t>(n));
  }
  return answer.starts_with("HTTP/1.1 200");
}

void run(int port, double end, Line& line) {
  const int fd = connect_to(port);
  std::string answer;
  for (double begun = now(); begun < end;) {
    line.good = line.good && fd >= 0 && ask(fd, answer);
    if (!line.good) break;
    const double then = now();
    line.times.push_back(then - begun);
    begun = then;
  }
  if (fd >= 0) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const double seconds = std::atof(argv[2]);
  std::vector<Line> lines(static_cast<size_t>(std::atoi(argv[3])));
  std::vector<std::thread> threads;
  const double begun = now();
  for (Line& line : lines)
    threads.emplace_back(run, std::atoi(argv[1]), begun + seconds * 1e6, std::ref(line));
  for (std::thread& thread : threads) thread.join();
  const double taken = (now() - begun) / 1e6;
  std::vector<double> all;
  bool good = true;
  for (const Line& line : lines) {
    all.insert(all.end(), line.times.begin(), line.times.end());
    good = good && line.good;
  }
  std::ranges::sort(all);
  if (all.empty()) return 1;
  const auto at = [&](double part) {
    return all[static_cast<size_t>(part * static_cast<double>(all.size() - 1))];
  };
  std::printf("%zu %.3f %.1f %.1f\n", all.size(), taken, at(0.5), at(0.95));
  return good ? 0 : 1;
}
