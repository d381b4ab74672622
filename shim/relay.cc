// SPDX-License-Identifier: Apache-2.0
// Copying by splice. See relay.h.
#include "shim/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "executor/base/fd.h"
#include "shim/loop.h"

namespace amphora::shim {
namespace {
constexpr size_t kChunk = 64U << 10;
// After so many chunks the loop gets its turn.
constexpr int kChunks = 16;
}  // namespace

Relay::Relay(Loop& loop, UniqueFd in, UniqueFd out, Callback drained)
    : in_(std::move(in)),
      out_(std::move(out)),
      in_watch_(std::make_unique<FdWatch>(loop, in_.get())),
      out_watch_(std::make_unique<FdWatch>(loop, out_.get())),
      drained_(std::move(drained)) {
  in_watch_->readable([this] { pump(); });
}

void Relay::pump() {
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const ssize_t moved = ::splice(in_.get(), nullptr, out_.get(), nullptr, kChunk,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (moved > 0) continue;
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0 || errno != EAGAIN) return close();  // the last writer is gone
    // Either side may be the one that is not ready.
    pollfd room{.fd = out_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&room, 1, 0) == 0) return out_watch_->writable([this] { pump(); });
    break;
  }
  in_watch_->readable([this] { pump(); });
}

void Relay::close() {
  in_watch_.reset();
  out_watch_.reset();
  in_.reset();
  out_.reset();
  std::exchange(drained_, nullptr)();
}

}  // namespace amphora::shim
