// SPDX-License-Identifier: Apache-2.0
// Building a Document from nlohmann-json's parse events, and reading scalars out of it. Events, not
// the library's own tree: a config of 20 KB is then two allocations and no map nodes. The parser
// keeps its nesting on the heap, so hostile depth cannot overflow the stack; the limits below bound
// memory.
#include "executor/oci/document.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "executor/base/error.h"

namespace amphora::oci {

namespace {

/// The library quotes the last token it read, which a hostile text makes as long as itself.
constexpr size_t kMaxParseMessage = 240;

/// The words of nlohmann's message without its "[json.exception.parse_error.101] ".
std::string parse_message(const char* what) {
  std::string_view text = what;
  if (const auto end = text.find("] "); end != text.npos) text.remove_prefix(end + 2);
  if (text.size() > kMaxParseMessage) return fmt::format("{}...", text.substr(0, kMaxParseMessage));
  return std::string(text);
}

const char* article(Document::Type type) {
  switch (type) {
    case Document::Type::kNull:
      return "null";
    case Document::Type::kFalse:
    case Document::Type::kTrue:
      return "a boolean";
    case Document::Type::kUnsigned:
    case Document::Type::kNegative:
    case Document::Type::kFloat:
      return "a number";
    case Document::Type::kString:
      return "a string";
    case Document::Type::kArray:
      return "an array";
    case Document::Type::kObject:
      return "an object";
  }
  return "unknown";
}

void fail_type(Value value, const char* wanted) {
  value.fail(fmt::format("must be {}, is {}", wanted, article(value.type())));
}

}  // namespace

/// Receives the parser's events (the library calls these members by name).
class DocumentBuilder {
 public:
  DocumentBuilder(Document& document, size_t json_size) : document_(document) {
    document_.text_ = std::make_unique_for_overwrite<char[]>(json_size + 1);
    document_.nodes_.reserve(std::min<size_t>(json_size / 20 + 16, kMaxJsonNodes));
  }

  bool null() { return add(Document::Type::kNull, 0); }
  bool boolean(bool value) {
    return add(value ? Document::Type::kTrue : Document::Type::kFalse, 0);
  }
  bool number_integer(int64_t value) {
    return add(Document::Type::kNegative, static_cast<uint64_t>(value));
  }
  bool number_unsigned(uint64_t value) { return add(Document::Type::kUnsigned, value); }
  bool number_float(double /*value*/, const std::string& /*text*/) {
    return add(Document::Type::kFloat, 0);
  }
  bool string(const std::string& value) {
    const uint32_t offset = store(value);
    if (!add(Document::Type::kString, offset)) return false;
    document_.nodes_.back().size = static_cast<uint32_t>(value.size());
    return true;
  }
  bool binary(const nlohmann::json::binary_t& /*value*/) { return false; }
  bool key(const std::string& name) {
    key_size_ = static_cast<uint32_t>(name.size());
    key_ = store(name);
    return true;
  }
  bool start_object(size_t /*elements*/) { return open(Document::Type::kObject); }
  bool start_array(size_t /*elements*/) { return open(Document::Type::kArray); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::json::exception& error) {
    problem_ = parse_message(error.what());
    return false;
  }

  const std::string& problem() const { return problem_; }

 private:
  struct Level {
    uint32_t container = 0, last_child = 0;
  };

  uint32_t store(const std::string& text) {
    const uint32_t offset = text_size_;
    std::memcpy(&document_.text_[offset], text.data(), text.size());
    text_size_ += static_cast<uint32_t>(text.size());
    return offset;
  }

  bool add(Document::Type type, uint64_t bits) {
    auto& nodes = document_.nodes_;
    if (nodes.size() >= kMaxJsonNodes) {
      problem_ = fmt::format("more than {} values", kMaxJsonNodes);
      return false;
    }
    const auto index = static_cast<uint32_t>(nodes.size());
    Document::Node node{.type = type, .key = key_, .key_size = key_size_, .bits = bits};
    key_size_ = 0;
    if (depth_ > 0) {
      Level& level = levels_[depth_ - 1];
      node.parent = level.container;
      (level.last_child == 0 ? nodes[level.container].size : nodes[level.last_child].next) = index;
      level.last_child = index;
    }
    nodes.push_back(node);
    return true;
  }

  bool open(Document::Type type) {
    if (depth_ == kMaxJsonDepth) {
      problem_ = fmt::format("nested deeper than {} levels", kMaxJsonDepth);
      return false;
    }
    const auto index = static_cast<uint32_t>(document_.nodes_.size());
    if (!add(type, 0)) return false;
    levels_[depth_++] = Level{.container = index};
    return true;
  }

  bool close() {
    --depth_;
    return true;
  }

  Document& document_;
  Level levels_[kMaxJsonDepth];
  unsigned depth_ = 0;
  uint32_t text_size_ = 0, key_ = 0, key_size_ = 0;
  std::string problem_;
};

Result<Document> Document::parse(std::string_view json) {
  if (json.size() > kMaxJsonBytes) {
    return amphora::fail(Errc::kInvalid, fmt::format("json: more than {} bytes", kMaxJsonBytes));
  }
  Document document;
  DocumentBuilder builder(document, json.size());
  if (!nlohmann::json::sax_parse(json.data(), json.data() + json.size(), &builder)) {
    return amphora::fail(Errc::kInvalid, "json: " + builder.problem());
  }
  return document;
}

std::string Document::path(uint32_t index) const {
  if (index == 0) return {};
  const Node& node = nodes_[index];
  std::string path = this->path(node.parent);  // depth is bounded by kMaxJsonDepth
  if (nodes_[node.parent].type == Type::kArray) {
    size_t position = 0;
    for (uint32_t i = nodes_[node.parent].size; i != index; i = nodes_[i].next) ++position;
    return fmt::format("{}[{}]", path, position);
  }
  const auto name = key(node);
  const bool plain = !name.empty() && name.size() < 64 &&
                     std::ranges::all_of(
                         name,
                         [](char c) {
                           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                  (c >= '0' && c <= '9') || c == '_';
                         });
  if (!plain) return fmt::format("{}[\"{}\"]", path, name.substr(0, 128));
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

void Document::fail(uint32_t index, std::string_view what) {
  if (error_) return;
  const auto where = path(index);
  error_.emplace(Errc::kInvalid,
                 where.empty() ? std::string(what) : fmt::format("{}: {}", where, what));
}

void Document::fail_member(uint32_t index, std::string_view name, std::string_view what) {
  if (error_) return;
  const auto where = path(index);
  error_.emplace(Errc::kInvalid,
                 fmt::format("{}{}{}: {}", where, where.empty() ? "" : ".", name, what));
}

bool expect(Value value, Document::Type type) {
  if (value.type() == type) return true;
  fail_type(value, article(type));
  return false;
}

void read(Value value, bool& out) {
  if (value.type() != Document::Type::kTrue && value.type() != Document::Type::kFalse) {
    fail_type(value, "a boolean");
    return;
  }
  out = value.type() == Document::Type::kTrue;
}

// A NUL would cut the text short in every system call after it.
void read(Value value, std::string& out) {
  if (!expect(value, Document::Type::kString)) return;
  const auto text = value.text();
  if (text.find('\0') != text.npos) {
    value.fail("has a NUL byte");
    return;
  }
  out.assign(text);
}

void read_key(Value member, std::string& out) {
  out.assign(member.key());
  if (out.find('\0') != out.npos) member.fail("has a NUL byte in its name");
}

bool read_signed(Value value, int64_t low, int64_t high, int64_t& out) {
  const auto& node = value.node();
  const bool negative = node.type == Document::Type::kNegative;
  if (!negative && node.type != Document::Type::kUnsigned) {
    fail_type(value, "an integer");
    return false;
  }
  const auto number = static_cast<int64_t>(node.bits);
  const bool too_big =
      !negative && node.bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (too_big || number < low || number > high) {
    const auto shown = negative ? fmt::format("{}", number) : fmt::format("{}", node.bits);
    value.fail(fmt::format("{} is out of range ({} to {})", shown, low, high));
    return false;
  }
  out = number;
  return true;
}

bool read_unsigned(Value value, uint64_t high, uint64_t& out) {
  const auto& node = value.node();
  const bool negative = node.type == Document::Type::kNegative;
  if (!negative && node.type != Document::Type::kUnsigned) {
    fail_type(value, "an integer");
    return false;
  }
  if (negative || node.bits > high) {
    const auto shown = negative ? fmt::format("{}", static_cast<int64_t>(node.bits))
                                : fmt::format("{}", node.bits);
    value.fail(fmt::format("{} is out of range (0 to {})", shown, high));
    return false;
  }
  out = node.bits;
  return true;
}

namespace {

/// As Go's decoder, and so runc's, has it: "pagesize" is pageSize, too; of several the last counts.
bool same_name(std::string_view key, std::string_view name) noexcept {
  if (key.size() != name.size()) return false;
  if (key == name) return true;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::ranges::equal(key, name, {}, lower, lower);
}

}  // namespace

std::optional<Value> Object::find(std::string_view name) const {
  if (!is_object_) return std::nullopt;
  std::optional<Value> found;
  value_.each([&](Value member) {
    if (same_name(member.key(), name)) found = member;
  });
  if (found && found->is_null()) found.reset();
  return found;
}

void Object::fail(std::string_view name, std::string_view what) const {
  if (const auto member = find(name)) {
    member->fail(what);
    return;
  }
  value_.fail_member(name, what);
}

void Object::missing(std::string_view name) const {
  if (is_object_) value_.fail_member(name, "missing");
}

Error current_exception_error() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return Error(Errc::kSystem, "json: out of memory");
  } catch (const std::exception& e) {
    return Error(Errc::kInternal, fmt::format("json: {}", parse_message(e.what())));
  } catch (...) {
    return Error(Errc::kInternal, "json: unknown exception");
  }
}

}  // namespace amphora::oci
