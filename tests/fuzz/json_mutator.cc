// SPDX-License-Identifier: Apache-2.0
// A mutator for inputs that are JSON: bytes changed at random are hardly ever JSON again, so most
// rounds change the parsed text (a value for another, a member gone or doubled) and print it anew.
// What stands before the first brace (a target's circumstances) is kept. Linked by the targets that
// parse JSON; libFuzzer finds it by its name.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed);

namespace {

using Json = nlohmann::json;

/// Printing recurses; a text that is nested deeper is left to the mutation of bytes.
constexpr size_t kMaxDepth = 100;

struct Place {
  Json* value;
  Json* parent;
};

void collect(Json& value, Json* parent, std::vector<Place>& out) {
  out.push_back({&value, parent});
  if (value.is_structured()) {
    for (auto& child : value) collect(child, &value, out);
  }
}

size_t depth_of(std::string_view text) {
  size_t depth = 0, most = 0;
  for (const char c : text) {
    if (c == '{' || c == '[') most = std::max(most, ++depth);
    if ((c == '}' || c == ']') && depth > 0) --depth;
  }
  return most;
}

class Mutation {
 public:
  explicit Mutation(unsigned seed) : random_(seed) {}

  size_t pick(size_t below) { return random_() % below; }

  void change(Json& root) {
    std::vector<Place> places;
    collect(root, nullptr, places);
    const Place at = places[pick(places.size())];
    switch (pick(6)) {
      case 0:
        *at.value = any_value();
        return;
      case 1: {
        const Json other = *places[pick(places.size())].value;
        *at.value = other;
        return;
      }
      case 2:
        return remove(at);
      case 3:
        return add(*at.value, *places[pick(places.size())].value);
      default:
        return vary(*at.value);
    }
  }

 private:
  Json any_value() {
    static const std::vector<Json> kValues = {
        nullptr,     true,          false,         0,          1,
        -1,          65535,         65536,         2147483647, INT64_C(-2147483648),
        4294967295U, INT64_MAX,     INT64_MIN,     UINT64_MAX, 1e300,
        "",          "/",           "/..",         "a",        "0-3,7",
        "7-0",       "=",           "\0",          "\xc3\xa9", "-.slice",
        "a:b:c",     Json::array(), Json::object()};
    return kValues[pick(kValues.size())];
  }

  void remove(const Place& at) {
    if (at.parent == nullptr) return;
    if (at.parent->is_array()) {
      at.parent->erase(pick(at.parent->size()));
    } else {
      at.parent->erase(std::next(at.parent->begin(), static_cast<long>(pick(at.parent->size()))));
    }
  }

  void add(Json& to, Json value) {
    if (to.is_array()) {
      to.insert(to.begin() + static_cast<long>(pick(to.size() + 1)), std::move(value));
    } else if (to.is_object() && !to.empty()) {
      const auto member = std::next(to.begin(), static_cast<long>(pick(to.size())));
      to[vary_text(member.key())] = std::move(value);
    }
  }

  void vary(Json& value) {
    if (value.is_string()) {
      value = vary_text(value.get<std::string>());
    } else if (value.is_number_integer()) {
      const auto number = value.get<uint64_t>();
      const uint64_t others[] = {number + 1, number - 1, number << pick(64), ~number, random_()};
      value = others[pick(std::size(others))];
    } else if (value.is_array() && value.size() > 1) {
      std::swap(value[pick(value.size())], value[pick(value.size())]);
    } else {
      value = any_value();
    }
  }

  std::string vary_text(std::string text) {
    const size_t size = text.size();
    text.resize(size + 64);
    text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, text.size()));
    return text;
  }

  std::mt19937_64 random_;
};

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  Mutation mutation(seed);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t brace = text.find('{');
  if (brace == std::string_view::npos || mutation.pick(8) == 0 || depth_of(text) > kMaxDepth) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  Json json = Json::parse(text.substr(brace), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return LLVMFuzzerMutate(data, size, max_size);
  for (size_t round = 1 + mutation.pick(3); round > 0; --round) mutation.change(json);
  const std::string out = std::string(text.substr(0, brace)) +
                          json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (out.size() > max_size || depth_of(out) > kMaxDepth) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  std::memcpy(data, out.data(), out.size());
  return out.size();
}
