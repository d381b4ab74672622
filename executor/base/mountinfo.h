// SPDX-License-Identifier: Apache-2.0
// Lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)), for those who look for one filesystem in a table that may
// be thousands of lines long: views into the line, nothing is copied. libmount does the rest (decision 0013).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace amphora {

struct MountLine {
  std::string_view root;   ///< of the mount within its filesystem, escaped
  std::string_view point;  ///< where it is mounted, below the reader's root, escaped
  std::string_view type;   ///< of the filesystem
  std::string_view super;  ///< options of the filesystem
};

/// Cuts the first line off `text`, without its newline; the last one may lack it.
std::string_view take_line(std::string_view& text);
/// Nothing: the line is not one of the table's.
std::optional<MountLine> parse_mount_line(std::string_view line);
/// Blank, tab, newline and backslash are written as octal escapes in `root` and `point`.
std::string unescape_mount(std::string_view text);

}  // namespace amphora
