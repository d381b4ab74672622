// SPDX-License-Identifier: Apache-2.0
// JsonWriter: writes small JSON texts exactly as Go's encoding/json does (its escapes, its
// indentation), because software compares and parses runc's output. Members in the order of the
// calls. Private to executor/oci.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace amphora::oci {

class JsonWriter {
 public:
  /// `indent` spaces a level; 0: everything on one line without blanks.
  explicit JsonWriter(unsigned indent = 0) : indent_(indent) {}

  // `name` is empty for elements of arrays and for the outermost value.
  void open(std::string_view name, char bracket);  ///< '{' or '['
  void close(char bracket);                        ///< '}' or ']'
  void text(std::string_view name, std::string_view value);
  void number(std::string_view name, int64_t value);
  void number(std::string_view name, uint64_t value);
  void real(std::string_view name, double value);
  void null(std::string_view name);
  void boolean(std::string_view name, bool value);
  void map(std::string_view name, const std::map<std::string, std::string>& values);

  std::string take() && { return std::move(out_); }

 private:
  void begin(std::string_view name);
  void new_line();
  void quote(std::string_view text);

  std::string out_;
  unsigned indent_;
  unsigned depth_ = 0;
  bool first_ = true;  ///< nothing was written in the open bracket yet
};

}  // namespace amphora::oci
