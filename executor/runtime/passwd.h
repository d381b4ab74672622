// SPDX-License-Identifier: Apache-2.0
// Reading the text of a container's /etc/passwd. Pure; opening that file without harm is parts.cc's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace amphora::runtime {

/// The home directory of `uid`; "/" where no whole line (name:x:uid:gid:gecos:home:shell) has one.
std::string home_in(std::string_view passwd, uint32_t uid);

}  // namespace amphora::runtime
