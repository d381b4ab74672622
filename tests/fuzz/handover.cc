// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as what the wasm host is handed about a guest. No length is trusted, every
// text ends inside, and what is decoded is encoded to the same bytes.
#include "wasm/handover.h"

#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

std::vector<std::string> texts(const std::vector<const char*>& table, std::string_view bytes) {
  AMPHORA_CHECK(!table.empty() && table.back() == nullptr);
  std::vector<std::string> out;
  for (size_t i = 0; i + 1 < table.size(); ++i) {
    AMPHORA_CHECK(table[i] >= bytes.data() && table[i] < bytes.data() + bytes.size());
    out.emplace_back(table[i]);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(fuzz::text_of(data, size));
  wasm::HandoverView view;
  if (!wasm::decode(bytes, &view)) return 0;
  AMPHORA_CHECK(view.options.size() % 2 == 1 && view.preopens.size() % 3 == 1);
  const wasm::Handover again{.path = view.path,
                             .function = view.function,
                             .cwd = view.cwd,
                             .args = texts(view.args, bytes),
                             .env = texts(view.env, bytes),
                             .options = texts(view.options, bytes),
                             .preopens = texts(view.preopens, bytes),
                             .listen = view.listen,
                             .backlog = view.backlog,
                             .flags = view.flags,
                             .memory_limit = view.memory_limit};
  AMPHORA_CHECK(wasm::encode(again) == bytes);
  return 0;
}
