// SPDX-License-Identifier: Apache-2.0
// The zygote: a process with an engine started and nothing of any tenant in it, which clones itself
// for each container on its client's request (zygote_protocol.h).
#pragma once

namespace amphora::wasm {

struct ZygoteOptions {
  int socket = -1;  ///< SOCK_SEQPACKET to the client
  const char* engine_dir = nullptr;
  const char* engine = nullptr;
  bool in_view = false;  ///< executed by enter_view (view.h)
};

/// Serves until the socket ends; the process's exit code. Clones never return.
int serve_zygote(const ZygoteOptions& options) noexcept;

}  // namespace amphora::wasm
