// SPDX-License-Identifier: Apache-2.0
// The directories that a guest gets: opened with the rights of the container's user, in the view of the
// root that the plan has kept (decision 0020), or in the root itself where there is none.
#pragma once

#include <string>
#include <vector>

#include "amphora/engine.h"
#include "executor/init/init.h"
#include "wasm/handover.h"

namespace amphora::wasm {

class Preopens {
 public:
  /// Both must outlive it: the list points into them.
  Preopens(const HandoverView& handover, const init::Walk& walk) noexcept
      : handover_(handover), walk_(walk) {}
  /// Those that the container's annotation names, or the root. Null, or the directory that could not be
  /// opened (errno says why).
  const char* open();
  const std::vector<amphora_preopen>& list() const noexcept { return list_; }

 private:
  /// `guest` is the name that the guest sees; not copied.
  bool add(int fd, const char* guest, uint32_t read_only = 0);
  int open_directory(const char* path) const noexcept;
  void open_root();
  void open_top_level();

  const HandoverView& handover_;
  const init::Walk& walk_;
  std::vector<std::string> names_;
  std::vector<amphora_preopen> list_;
};

}  // namespace amphora::wasm
