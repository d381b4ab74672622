// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: a container's own /etc/passwd, which its image or a guest wrote. HOME must come
// from one of its lines or be "/", and the same when nothing but garbage is put before and after.
#include "executor/runtime/passwd.h"

#include "tests/fuzz/support.h"

using namespace amphora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(fuzz::text_of(data, size));
  for (const uint32_t uid : {0U, 1000U, UINT32_MAX}) {
    const std::string home = runtime::home_in(text, uid);
    AMPHORA_CHECK(!home.empty() && !home.contains('\n') && !home.contains(':'));
    AMPHORA_CHECK(!home.contains('\0'));
    AMPHORA_CHECK(home == "/" || text.contains(":" + home));
    AMPHORA_CHECK(runtime::home_in("no line\n" + text + "\n:::::::", uid) == home);
  }
  return 0;
}
