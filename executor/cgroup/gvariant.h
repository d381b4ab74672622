// SPDX-License-Identifier: Apache-2.0
// Values in GVariant's text form ("uint64 5", "['a', 'b']", "true"), as annotations org.systemd.property.NAME
// carry them, and their D-Bus encoding. A part of the grammar: what unit properties are made of, which is
// booleans, numbers, strings, arrays and tuples. Pure and bounded: the text comes with a container's spec.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/dbus_message.h"

namespace amphora::cgroup {

struct DBusValue {
  std::string signature;  ///< one complete type: "t", "as", "(ss)"
  uint64_t number = 0;    ///< b y n q i u x t; d as its bits
  std::string text;       ///< s
  std::vector<DBusValue> items;

  bool operator==(const DBusValue&) const = default;
};

/// kInvalid: no such text. An integer without a type is an int32, as with GLib.
Result<DBusValue> parse_gvariant(std::string_view text);
/// Appends the value, without its signature.
void append(dbus::Writer& out, const DBusValue& value);

struct NamedValue {
  std::string name;
  DBusValue value;
};
/// The unit properties that annotations ask for. A name that ends in "Sec" behind a small letter is
/// given in seconds and becomes NAMEUSec in microseconds, as with runc. The error names the annotation.
Result<std::vector<NamedValue>> annotated_properties(
    const std::map<std::string, std::string>& annotations);

}  // namespace amphora::cgroup
