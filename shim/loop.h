// SPDX-License-Identifier: Apache-2.0
// The shim's event loop: the few names of Boost.Asio that the rest of the shim uses, callbacks that
// carry a Result, and FdWatch. One thread runs the loop and owns every Task; whatever blocks is done
// by Workers and comes back here by asio::post.
#pragma once

#include <functional>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "executor/base/error.h"

namespace amphora::shim {

namespace asio = boost::asio;
using Loop = asio::io_context;
using Callback = std::move_only_function<void()>;
template <class T>
using Done = std::move_only_function<void(Result<T>)>;

/// Waits on a descriptor that somebody else owns and keeps open for the watch's life. Destroying the
/// watch cancels the wait; its callback is then never called.
class FdWatch {
 public:
  FdWatch(Loop& loop, int fd) : descriptor_(loop, fd) {}
  ~FdWatch() { descriptor_.release(); }
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  /// Calls `ready` once, when the descriptor is readable or its peer has hung up.
  void readable(Callback ready) {
    wait(asio::posix::stream_descriptor::wait_read, std::move(ready));
  }
  void writable(Callback ready) {
    wait(asio::posix::stream_descriptor::wait_write, std::move(ready));
  }

 private:
  void wait(asio::posix::stream_descriptor::wait_type type, Callback ready) {
    descriptor_.async_wait(type,
                           [call = std::move(ready)](boost::system::error_code error) mutable {
                             if (!error) call();
                           });
  }

  asio::posix::stream_descriptor descriptor_;
};

}  // namespace amphora::shim
