// SPDX-License-Identifier: Apache-2.0
// See component.h. The binary format of the component model: sections of an id byte and a LEB128 size;
// 10 are imports, 11 exports, each a vector of names and descriptions.
#include "image/component.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace amphora::image {
namespace {

constexpr uint8_t kImports = 10, kExports = 11;

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}
  bool is_at_end() const { return rest_.empty(); }
  bool is_good() const { return good_; }
  uint8_t byte() {
    if (rest_.empty()) return bad();
    const auto value = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  uint32_t number() {
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
      const uint8_t next = byte();
      value |= static_cast<uint32_t>(next & 0x7fU) << shift;
      if ((next & 0x80U) == 0) return value;
    }
    return bad();
  }
  std::string_view bytes(uint32_t size) {
    if (size > rest_.size()) {
      bad();
      return {};
    }
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }
  /// 0x00 or 0x01, a length, the name; 0x02 in newer files: with a version's suffix.
  std::string name() {
    const uint8_t form = byte();
    if (form > 2) bad();
    std::string out(bytes(number()));
    if (form == 2) bytes(number());
    return out;
  }
  /// externdesc: what kind of thing, and its index or bound.
  void description() {
    switch (byte()) {
      case 0x00:  // core module, behind the core sort 0x11
        if (byte() != 0x11) bad();
        number();
        return;
      case 0x01:  // function
      case 0x04:  // component
      case 0x05:  // instance
        number();
        return;
      case 0x02:  // value, equal to one or of a type
      case 0x03:  // type, equal to one or a resource
        if (byte() == 0x00) number();
        return;
      default:
        bad();
    }
  }
  /// sortidx: what kind, and its index.
  void sort_index() {
    if (byte() == 0x00) byte();
    number();
  }

 private:
  uint8_t bad() {
    good_ = false;
    rest_ = {};
    return 0;
  }
  std::string_view rest_;
  bool good_ = true;
};

bool read_section(uint8_t id, std::string_view bytes, ComponentNames* names) {
  Cursor cursor(bytes);
  const uint32_t count = cursor.number();
  for (uint32_t i = 0; i < count && cursor.is_good(); ++i) {
    std::string name = cursor.name();
    if (id == kImports) {
      cursor.description();
      names->imports.push_back(std::move(name));
    } else {
      cursor.sort_index();
      if (cursor.byte() == 0x01) cursor.description();
      names->exports.push_back(std::move(name));
    }
  }
  return cursor.is_good();
}

}  // namespace

Binary binary_of(std::string_view bytes) {
  if (bytes.starts_with(std::string_view("\0asm\1\0\0\0", 8))) return Binary::kModule;
  if (bytes.starts_with(std::string_view("\0asm\x0d\0\1\0", 8))) return Binary::kComponent;
  return Binary::kOther;
}

std::optional<ComponentNames> component_names(std::string_view bytes) {
  if (binary_of(bytes) != Binary::kComponent) return std::nullopt;
  ComponentNames names;
  Cursor cursor(bytes.substr(8));
  while (!cursor.is_at_end() && cursor.is_good()) {
    const uint8_t id = cursor.byte();
    const std::string_view section = cursor.bytes(cursor.number());
    if ((id == kImports || id == kExports) && !read_section(id, section, &names)) {
      return std::nullopt;
    }
  }
  return cursor.is_good() ? std::optional(std::move(names)) : std::nullopt;
}

}  // namespace amphora::image
