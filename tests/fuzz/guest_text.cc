// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: texts that an image or a guest writes and we read. A container's own /etc/passwd:
// HOME must come from one of its lines or be "/", and the same when garbage stands before and after.
// Messages to its notify socket: nothing passes that is not a known line of it.
#include "executor/cli/notify.h"
#include "executor/runtime/passwd.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

void check_home(const std::string& text, uint32_t uid) {
  const std::string home = runtime::home_in(text, uid);
  AMPHORA_CHECK(!home.empty() && !home.contains('\n') && !home.contains(':'));
  AMPHORA_CHECK(!home.contains('\0'));
  AMPHORA_CHECK(home == "/" || text.contains(":" + home));
  AMPHORA_CHECK(runtime::home_in("no line\n" + text + "\n:::::::", uid) == home);
}

void check_notify(const std::string& text) {
  bool ready = false;
  const std::string passed = cli::passed_on(text, ready);
  AMPHORA_CHECK(passed.size() <= text.size() + 1);
  for (const auto& line : fuzz::split(passed, '\n')) {
    AMPHORA_CHECK(("\n" + text + "\n").contains("\n" + line + "\n"));
    AMPHORA_CHECK(!line.starts_with("MAINPID") && !line.starts_with("FD"));
  }
  AMPHORA_CHECK(ready == ("\n" + passed).contains("\nREADY=1\n"));
  bool again = false;
  AMPHORA_CHECK(cli::passed_on(passed, again) == passed && again == ready);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(fuzz::text_of(data, size));
  for (const uint32_t uid : {0U, 1000U, UINT32_MAX}) check_home(text, uid);
  check_notify(text);
  return 0;
}
