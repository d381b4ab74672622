// SPDX-License-Identifier: Apache-2.0
// Document: one parsed JSON text as a flat array of nodes, filled by nlohmann-json's event parser;
// and Value and Object, cursors into it. Reading never throws and never stops: the first thing
// found wrong is kept with its member path ("process.rlimits[2].hard: ..."), everything after it
// reads as absent, and the caller asks once, at the end. Here belongs how JSON becomes C++ values;
// not here: what the members of a spec mean. Private to executor/oci.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora::oci {

inline constexpr size_t kMaxJsonBytes = size_t{16} << 20;
inline constexpr unsigned kMaxJsonDepth = 64;
inline constexpr uint32_t kMaxJsonNodes = 1U << 18;

class Document {
 public:
  enum class Type : uint8_t {
    kNull,
    kFalse,
    kTrue,
    kUnsigned,
    kNegative,
    kFloat,
    kString,
    kArray,
    kObject
  };

  /// 32 bytes, so that a 20 KB config stays in the first-level cache's reach.
  struct Node {
    Type type = Type::kNull;
    uint32_t parent = 0, next = 0;  ///< indexes; 0 is the root, hence "none" for `next`
    uint32_t key = 0, key_size = 0;
    uint32_t size = 0;  ///< bytes of a string; index of the first child of a container, 0: empty
    uint64_t bits = 0;  ///< offset of a string, or the number
  };

  /// Parses `json`. kInvalid with line and column, or with the limit that was passed.
  static Result<Document> parse(std::string_view json);

  const Node& node(uint32_t index) const noexcept { return nodes_[index]; }
  /// A string's text; empty for any other type.
  std::string_view text(const Node& node) const noexcept {
    if (node.type != Type::kString) return {};
    return {&text_[node.bits], node.size};
  }
  std::string_view key(const Node& node) const noexcept {
    return {&text_[node.key], node.key_size};
  }
  /// "process.rlimits[2].hard"; empty for the root.
  std::string path(uint32_t index) const;

  /// Keeps `what` with the node's path unless something was wrong before.
  void fail(uint32_t index, std::string_view what);
  /// The same for a member that the object does not have.
  void fail_member(uint32_t index, std::string_view name, std::string_view what);
  bool failed() const noexcept { return error_.has_value(); }
  /// The first failure, once.
  std::optional<Error> take_error() noexcept { return std::move(error_); }

 private:
  friend class DocumentBuilder;
  std::vector<Node> nodes_;
  std::unique_ptr<char[]> text_;  ///< unescaped strings; never longer than the JSON text
  std::optional<Error> error_;
};

/// One value of a document.
class Value {
 public:
  Value(Document& document, uint32_t index) noexcept : document_(&document), index_(index) {}

  Document& document() const noexcept { return *document_; }
  const Document::Node& node() const noexcept { return document_->node(index_); }
  Document::Type type() const noexcept { return node().type; }
  bool is_null() const noexcept { return type() == Document::Type::kNull; }
  std::string_view text() const noexcept { return document_->text(node()); }
  std::string_view key() const noexcept { return document_->key(node()); }
  void fail(std::string_view what) const { document_->fail(index_, what); }

  void fail_member(std::string_view name, std::string_view what) const {
    document_->fail_member(index_, name, what);
  }

  /// Calls `visit(Value)` for each element or member, in order; never for a scalar.
  template <class Visit>
  void each(Visit visit) const {
    if (type() != Document::Type::kArray && type() != Document::Type::kObject) return;
    for (uint32_t i = node().size; i != 0; i = document_->node(i).next) visit(Value(*document_, i));
  }

 private:
  Document* document_;
  uint32_t index_;
};

void read(Value value, bool& out);
void read(Value value, std::string& out);
/// An integer within [low, high]; `out` is left alone otherwise.
bool read_signed(Value value, int64_t low, int64_t high, int64_t& out);
bool read_unsigned(Value value, uint64_t high, uint64_t& out);
/// Members of an object with string values, such as annotations.
void read_key(Value member, std::string& out);
/// True if the value is of the container type; a failure otherwise.
bool expect(Value value, Document::Type type);

template <std::signed_integral T>
void read(Value value, T& out) {
  using Limits = std::numeric_limits<T>;
  int64_t number = 0;
  if (read_signed(value, Limits::min(), Limits::max(), number)) out = static_cast<T>(number);
}

template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>)
void read(Value value, T& out) {
  uint64_t number = 0;
  if (read_unsigned(value, std::numeric_limits<T>::max(), number)) out = static_cast<T>(number);
}

template <class T>
void read(Value value, std::optional<T>& out);
template <class T>
void read(Value value, std::map<std::string, T>& out);

template <class T>
void read(Value value, std::vector<T>& out) {
  if (!expect(value, Document::Type::kArray)) return;
  value.each([&](Value element) { read(element, out.emplace_back()); });
}

template <class T>
void read(Value value, std::optional<T>& out) {
  read(value, out.emplace());
}

template <class T>
void read(Value value, std::map<std::string, T>& out) {
  if (!expect(value, Document::Type::kObject)) return;
  std::string name;
  value.each([&](Value member) {
    if (member.is_null()) return;
    read_key(member, name);
    read(member, out.insert_or_assign(name, T{}).first->second);
  });
}

/// A value that must be an object. Absent and null members read as nothing (Go writes null for an
/// empty pointer or slice); of two members with one name the last counts, as in Go.
class Object {
 public:
  explicit Object(Value value) : value_(value) {
    is_object_ = expect(value, Document::Type::kObject);
  }

  /// Reads the member into `out`; true if it was there.
  template <class T>
  bool get(std::string_view name, T& out) const {
    const auto member = find(name);
    if (member) read(*member, out);
    return member.has_value();
  }
  /// Like get, and a failure if the member is absent.
  template <class T>
  void require(std::string_view name, T& out) const {
    if (!get(name, out)) missing(name);
  }
  /// The member, or nothing if it is absent or null.
  std::optional<Value> find(std::string_view name) const;
  /// Fails for the member, or for the object if it has no such member.
  void fail(std::string_view name, std::string_view what) const;
  Value value() const noexcept { return value_; }

 private:
  void missing(std::string_view name) const;

  Value value_;
  bool is_object_ = false;
};

/// Parses `json`, lets `read(Value, T&)` fill a T, and answers the T or what was wrong. The door
/// where exceptions of the JSON library and of allocation end.
template <class T>
Result<T> read_document(std::string_view json);

/// For read_document only: turns the exception being handled into an Error.
Error current_exception_error() noexcept;

template <class T>
Result<T> read_document(std::string_view json) try {
  TRY_ASSIGN(auto document, Document::parse(json));
  T out{};
  read(Value(document, 0), out);
  if (auto error = document.take_error()) return std::unexpected(std::move(*error));
  return out;
} catch (...) {
  return std::unexpected(current_exception_error());
}

}  // namespace amphora::oci
