// SPDX-License-Identifier: Apache-2.0
// Path algebra on strings, without any system call: for texts, keys and mount order. What a path
// leads to is asked of the kernel with openat2 (fd.h), never computed here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace amphora::path {

/// Lexically cleaned: no empty components, no ".", ".." applied and stopped at the root.
/// "a/../b" -> "b", "/../x" -> "/x", "" -> ".".
std::string clean(std::string_view path);
/// The absolute, cleaned form of `path` below `base` (absolute): join("/a", "b") -> "/a/b".
std::string join(std::string_view base, std::string_view path);
std::string_view base_name(std::string_view path);
/// "/a/b" -> "/a", "/a" -> "/", "a" -> ".".
std::string_view dir_name(std::string_view path);
/// True when `path` is `dir` or below it, compared by component ("/foobar" is not below "/foo").
bool is_below(std::string_view path, std::string_view dir);
std::vector<std::string_view> components(std::string_view path);

}  // namespace amphora::path
