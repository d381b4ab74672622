// SPDX-License-Identifier: Apache-2.0
// Go-style flags. See flags.h.
#include "shim/flags.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace amphora::shim {
namespace {

struct TextFlag {
  std::string_view name;
  std::string Flags::* member;
};
struct SwitchFlag {
  std::string_view name;
  bool Flags::* member;
};
constexpr TextFlag kTexts[] = {
    {"namespace", &Flags::name_space}, {"id", &Flags::id},
    {"address", &Flags::address},      {"publish-binary", &Flags::publish_binary},
    {"bundle", &Flags::bundle},        {"ttrpc-address", &Flags::ttrpc_address},
    {"socket", &Flags::socket},        {"engine", &Flags::engine},
};
constexpr SwitchFlag kSwitches[] = {
    {"debug", &Flags::debug},
    {"v", &Flags::version},
    {"version", &Flags::version},
    {"info", &Flags::info},
};

bool is_true(std::string_view text) {
  return text == "1" || text == "t" || text == "T" || text == "true" || text == "TRUE" ||
         text == "True";
}

bool is_action(std::string_view word) {
  return word == "start" || word == "delete" || word == "serve";
}

}  // namespace

Flags parse_flags(std::span<const char* const> words) {
  Flags flags;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (word.size() < 2 || word[0] != '-' || word == "--") {
      if (word == "--" && i + 1 < words.size()) word = words[i + 1];
      flags.action = word;
      return flags;
    }
    word.remove_prefix(word.starts_with("--") ? 2 : 1);
    std::optional<std::string_view> value;
    if (const size_t equals = word.find('='); equals != std::string_view::npos) {
      value = word.substr(equals + 1);
      word = word.substr(0, equals);
    }
    bool known = false;
    for (const auto& [name, member] : kSwitches) {
      if (word != name) continue;
      flags.*member = !value || is_true(*value);
      known = true;
    }
    for (const auto& [name, member] : kTexts) {
      if (word != name) continue;
      if (!value && i + 1 < words.size()) value = words[++i];
      flags.*member = value.value_or("");
      known = true;
    }
    // An unknown flag may or may not take the next word; an action is never a value.
    const bool has_next = i + 1 < words.size();
    if (!known && !value && has_next && words[i + 1][0] != '-' && !is_action(words[i + 1])) ++i;
  }
  return flags;
}

std::string engine_of_name(std::string_view program) {
  constexpr std::string_view kBefore = "containerd-shim-", kAfter = "-v1";
  if (const size_t slash = program.rfind('/'); slash != std::string_view::npos) {
    program.remove_prefix(slash + 1);
  }
  if (!program.starts_with(kBefore) || !program.ends_with(kAfter) ||
      program.size() <= kBefore.size() + kAfter.size()) {
    return "";
  }
  program.remove_prefix(kBefore.size());
  program.remove_suffix(kAfter.size());
  return program == "amphora" ? "" : std::string(program);
}

}  // namespace amphora::shim
