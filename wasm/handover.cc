// SPDX-License-Identifier: Apache-2.0
// Encoding of Handover: a fixed head, then NUL-terminated strings in the order of the struct.
#include "wasm/handover.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace amphora::wasm {
namespace {

struct Head {
  uint32_t magic;
  uint32_t version;
  uint32_t args, env, options, preopens;
  uint32_t flags, backlog;
  uint64_t memory_limit;
};
constexpr uint32_t kMagic = 0x68776d61;  // "amwh"
constexpr uint32_t kVersion = 2;

void put(std::string* out, const std::string& text) { out->append(text.c_str()).push_back('\0'); }

/// Takes one string off the front; null at the end of the bytes.
const char* take(std::string_view* rest) {
  const size_t end = rest->find('\0');
  if (end == std::string_view::npos) return nullptr;
  const char* text = rest->data();
  rest->remove_prefix(end + 1);
  return text;
}

bool take_table(std::string_view* rest, uint32_t count, std::vector<const char*>* table) {
  // A string takes a byte at least: this bounds the table before memory is asked for.
  if (count > rest->size()) return false;
  table->clear();
  table->reserve(size_t{count} + 1);
  for (uint32_t i = 0; i < count; ++i) {
    const char* text = take(rest);
    if (text == nullptr) return false;
    table->push_back(text);
  }
  table->push_back(nullptr);
  return true;
}

}  // namespace

std::string encode(const Handover& handover) {
  const Head head{kMagic,
                  kVersion,
                  static_cast<uint32_t>(handover.args.size()),
                  static_cast<uint32_t>(handover.env.size()),
                  static_cast<uint32_t>(handover.options.size()),
                  static_cast<uint32_t>(handover.preopens.size()),
                  handover.flags,
                  handover.backlog,
                  handover.memory_limit};
  std::string out(sizeof head, '\0');
  std::memcpy(out.data(), &head, sizeof head);
  put(&out, handover.path);
  put(&out, handover.function);
  put(&out, handover.cwd);
  put(&out, handover.listen);
  for (const auto* table : {&handover.args, &handover.env, &handover.options, &handover.preopens}) {
    for (const std::string& text : *table) put(&out, text);
  }
  return out;
}

bool decode(std::string_view bytes, HandoverView* view) {
  Head head;
  if (bytes.size() < sizeof head) return false;
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != kMagic || head.version != kVersion || head.options % 2 != 0) return false;
  if (head.preopens % 3 != 0) return false;
  std::string_view rest = bytes.substr(sizeof head);
  view->path = take(&rest);
  view->function = view->path != nullptr ? take(&rest) : nullptr;
  view->cwd = view->function != nullptr ? take(&rest) : nullptr;
  view->listen = view->cwd != nullptr ? take(&rest) : nullptr;
  if (view->listen == nullptr) return false;
  view->backlog = head.backlog;
  view->flags = head.flags;
  view->memory_limit = head.memory_limit;
  return take_table(&rest, head.args, &view->args) && take_table(&rest, head.env, &view->env) &&
         take_table(&rest, head.options, &view->options) &&
         take_table(&rest, head.preopens, &view->preopens) && rest.empty();
}

}  // namespace amphora::wasm
