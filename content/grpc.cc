// SPDX-License-Identifier: Apache-2.0
// See grpc.h. HTTP/2 with prior knowledge, no TLS; a message is a zero byte, its length in four bytes
// (big endian) and itself; the status comes in the trailers.
#include "content/grpc.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nghttp2/nghttp2.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::content {
namespace {

constexpr size_t kMaxMessage = size_t{17} << 20;  // containerd's own bound is 16 MiB
constexpr size_t kHead = 5;
constexpr int32_t kWindow = 4 << 20;
constexpr int kSeconds = 60;

/// The one call at hand.
struct Stream {
  int32_t id = -1;
  std::string body;
  size_t sent = 0;
  std::string received;
  std::string http_status, grpc_status, message;
  bool closed = false;
  uint32_t error_code = 0;
  const Grpc::Use* use = nullptr;
  Result<void> used;
};

Errc class_of(const std::string& status) {
  if (status == "3") return Errc::kInvalid;
  if (status == "5") return Errc::kNotFound;
  if (status == "6") return Errc::kExists;
  if (status == "9") return Errc::kPrecondition;
  if (status == "12") return Errc::kUnsupported;
  return Errc::kInternal;
}

/// grpc-message is percent-encoded.
std::string decoded(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        ::sscanf(text.substr(i + 1, 2).c_str(), "%2x", &value) == 1) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// Takes whole messages off the front of what has come.
void deliver(Stream& stream) {
  while (stream.used && stream.received.size() >= kHead) {
    const auto* head = reinterpret_cast<const uint8_t*>(stream.received.data());
    const size_t size =
        size_t{head[1]} << 24 | size_t{head[2]} << 16 | size_t{head[3]} << 8 | head[4];
    if (head[0] != 0 || size > kMaxMessage) {
      stream.used = fail(Errc::kInternal, "a gRPC message is compressed or too large");
      return;
    }
    if (stream.received.size() < kHead + size) return;
    stream.used = (*stream.use)(std::string_view(stream.received).substr(kHead, size));
    stream.received.erase(0, kHead + size);
  }
}

nghttp2_nv header(const std::string& name, const std::string& value) {
  // SAFETY: nghttp2 copies both and writes neither.
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

struct Grpc::State {
  UniqueFd socket;
  nghttp2_session* session = nullptr;
  std::optional<Stream> stream;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (session != nullptr) nghttp2_session_del(session);
  }
};

namespace {

Stream* stream_of(void* user, int32_t id) {
  auto* all = static_cast<std::optional<Stream>*>(user);
  return all->has_value() && (*all)->id == id ? &**all : nullptr;
}

int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
              const uint8_t* value, size_t value_size, uint8_t, void* user) {
  Stream* stream = stream_of(user, frame->hd.stream_id);
  if (stream == nullptr) return 0;
  const std::string_view key(reinterpret_cast<const char*>(name), name_size);
  std::string text(reinterpret_cast<const char*>(value), value_size);
  if (key == ":status") {
    stream->http_status = std::move(text);
  } else if (key == "grpc-status") {
    stream->grpc_status = std::move(text);
  } else if (key == "grpc-message") {
    stream->message = std::move(text);
  }
  return 0;
}

int on_data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
  Stream* stream = stream_of(user, id);
  if (stream == nullptr || !stream->used) return 0;
  stream->received.append(reinterpret_cast<const char*>(data), size);
  deliver(*stream);
  return 0;
}

int on_close(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
  if (Stream* stream = stream_of(user, id)) {
    stream->closed = true;
    stream->error_code = error_code;
  }
  return 0;
}

ssize_t read_body(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                  nghttp2_data_source* source, void*) {
  auto* stream = static_cast<Stream*>(source->ptr);
  const size_t size = std::min(length, stream->body.size() - stream->sent);
  std::copy_n(stream->body.data() + stream->sent, size, buffer);
  stream->sent += size;
  if (stream->sent == stream->body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(size);
}

Error broken(int code, const char* what) {
  return Error(Errc::kInternal, std::string(what) + ": " + nghttp2_strerror(code));
}

/// Writes all that the session wants to say.
Result<void> flush(int socket, nghttp2_session* session) {
  for (;;) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session, &data);
    if (size < 0) return std::unexpected(broken(static_cast<int>(size), "http/2"));
    if (size == 0) return {};
    TRY(write_all(socket, {reinterpret_cast<const char*>(data), static_cast<size_t>(size)}));
  }
}

Result<void> take(int socket, nghttp2_session* session) {
  uint8_t buffer[1 << 16];
  ssize_t n = 0;
  do {
    n = ::read(socket, buffer, sizeof buffer);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return fail(Errc::kInternal, "containerd does not answer");
  if (n < 0) return fail_errno(errno, "read from containerd");
  if (n == 0) return fail(Errc::kInternal, "containerd has closed the connection");
  const ssize_t used = nghttp2_session_mem_recv(session, buffer, static_cast<size_t>(n));
  if (used < 0) return std::unexpected(broken(static_cast<int>(used), "http/2"));
  return {};
}

Result<void> judge(const Stream& stream) {
  TRY(stream.used);
  if (stream.grpc_status == "0") return {};
  if (!stream.grpc_status.empty()) {
    return fail(class_of(stream.grpc_status), decoded(stream.message));
  }
  return fail(Errc::kInternal, "http status " + stream.http_status + ", http/2 error " +
                                   std::to_string(stream.error_code));
}

}  // namespace

Grpc::Grpc(std::unique_ptr<State> state) : state_(std::move(state)) {}
Grpc::Grpc(Grpc&&) noexcept = default;
Grpc::~Grpc() = default;

Result<Grpc> Grpc::connect(const std::string& address) {
  auto state = std::make_unique<State>();
  state->socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un where{};
  where.sun_family = AF_UNIX;
  if (!state->socket || address.size() >= sizeof where.sun_path) {
    return fail(Errc::kInvalid, "containerd's address " + address);
  }
  address.copy(where.sun_path, sizeof where.sun_path - 1);
  const struct timeval limit{kSeconds, 0};
  ::setsockopt(state->socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(state->socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(state->socket.get(), reinterpret_cast<const struct sockaddr*>(&where),
                sizeof where) != 0) {
    return fail_errno(errno, "connect to containerd at " + address);
  }
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &on_close);
  const int made = nghttp2_session_client_new(&state->session, callbacks, &state->stream);
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0) return std::unexpected(broken(made, "http/2"));
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
                                             {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
  nghttp2_submit_settings(state->session, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(state->session, NGHTTP2_FLAG_NONE, 0, kWindow);
  return Grpc(std::move(state));
}

Result<void> Grpc::call(const Call& call, const Use& use) {
  Stream& stream = state_->stream.emplace();
  stream.use = &use;
  for (const std::string& message : call.requests) {
    const auto size = static_cast<uint32_t>(message.size());
    const char head[kHead] = {0, static_cast<char>(size >> 24), static_cast<char>(size >> 16),
                              static_cast<char>(size >> 8), static_cast<char>(size)};
    stream.body.append(head, kHead).append(message);
  }
  std::vector<std::pair<std::string, std::string>> words{
      {":method", "POST"},
      {":scheme", "http"},
      {":path", call.path},
      {":authority", "localhost"},
      {"te", "trailers"},
      {"content-type", "application/grpc"},
      {"grpc-timeout", std::to_string(kSeconds) + "S"}};
  words.insert(words.end(), call.headers.begin(), call.headers.end());
  std::vector<nghttp2_nv> headers;
  headers.reserve(words.size());
  for (const auto& [name, value] : words) headers.push_back(header(name, value));
  nghttp2_data_provider provider{};
  provider.source.ptr = &stream;
  provider.read_callback = &read_body;
  stream.id = nghttp2_submit_request(state_->session, nullptr, headers.data(), headers.size(),
                                     &provider, nullptr);
  if (stream.id < 0) return std::unexpected(broken(stream.id, "http/2"));
  while (!stream.closed) {
    TRY(flush(state_->socket.get(), state_->session));
    if (stream.closed) break;
    TRY(take(state_->socket.get(), state_->session));
    if (!stream.used) return stream.used;  // nobody uses this connection after that
  }
  TRY(flush(state_->socket.get(), state_->session));
  return judge(stream);
}

}  // namespace amphora::content
