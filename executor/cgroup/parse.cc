// SPDX-License-Identifier: Apache-2.0
// Parsing of cgroup files. See parse.h.
#include "executor/cgroup/parse.h"

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"

namespace amphora::cgroup {
namespace {

/// Takes the part up to `separator` off the front of `text`.
std::string_view take(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

std::string_view take_word(std::string_view& line) {
  while (line.starts_with(' ')) line.remove_prefix(1);
  return take(line, ' ');
}

bool parse_device(std::string_view word, IoEntry& entry) {
  const std::string_view major = take(word, ':');
  return parse_number(major, entry.major) && parse_number(word, entry.minor);
}

double parse_double(std::string_view word) { return ::strtod(std::string(word).c_str(), nullptr); }

PressureLine parse_pressure_line(std::string_view line) {
  PressureLine out;
  while (!line.empty()) {
    std::string_view value = take_word(line);
    const std::string_view key = take(value, '=');
    if (key == "avg10") out.avg10 = parse_double(value);
    if (key == "avg60") out.avg60 = parse_double(value);
    if (key == "avg300") out.avg300 = parse_double(value);
    if (key == "total") static_cast<void>(parse_number(value, out.total));
  }
  return out;
}

}  // namespace

std::map<std::string, uint64_t> parse_flat_keyed(std::string_view text) {
  std::map<std::string, uint64_t> values;
  while (!text.empty()) {
    std::string_view line = take(text, '\n');
    const std::string_view key = take(line, ' ');
    uint64_t value = 0;
    if (!key.empty() && parse_number(line, value)) values.emplace(key, value);
  }
  return values;
}

std::vector<uint64_t> parse_numbers(std::string_view text) {
  std::vector<uint64_t> numbers;
  text = trim(text);
  while (!text.empty()) {
    uint64_t value = 0;
    if (parse_number(take_word(text), value)) numbers.push_back(value);
  }
  return numbers;
}

std::vector<IoEntry> parse_blkio(std::string_view text) {
  std::vector<IoEntry> entries;
  while (!text.empty()) {
    std::string_view line = take(text, '\n');
    IoEntry entry;
    if (!parse_device(take_word(line), entry)) continue;
    const std::string_view word = take_word(line);
    if (!parse_number(word, entry.value)) {
      entry.op = word;
      if (!parse_number(take_word(line), entry.value)) continue;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

IoStats parse_io_stat(std::string_view text) {
  IoStats stats;
  while (!text.empty()) {
    std::string_view line = take(text, '\n');
    IoEntry entry;
    if (!parse_device(take_word(line), entry)) continue;
    while (!line.empty()) {
      std::string_view value = take_word(line);
      entry.op = take(value, '=');
      if (!parse_number(value, entry.value)) continue;
      if (entry.op == "rbytes" || entry.op == "wbytes") stats.service_bytes.push_back(entry);
      if (entry.op == "rios" || entry.op == "wios") stats.serviced.push_back(entry);
    }
  }
  return stats;
}

Pressure parse_pressure(std::string_view text) {
  Pressure pressure;
  while (!text.empty()) {
    std::string_view line = take(text, '\n');
    const std::string_view kind = take_word(line);
    if (kind == "some") pressure.some = parse_pressure_line(line);
    if (kind == "full") pressure.full = parse_pressure_line(line);
  }
  return pressure;
}

std::vector<RdmaEntry> parse_rdma(std::string_view text) {
  std::vector<RdmaEntry> entries;
  while (!text.empty()) {
    std::string_view line = take(text, '\n');
    RdmaEntry entry;
    entry.device = take_word(line);
    if (entry.device.empty()) continue;
    while (!line.empty()) {
      std::string_view value = take_word(line);
      const std::string_view key = take(value, '=');
      uint64_t number = 0;
      if (!parse_number(value, number)) continue;
      const auto bounded = static_cast<uint32_t>(std::min<uint64_t>(number, UINT32_MAX));
      if (key == "hca_handle") entry.handles = bounded;
      if (key == "hca_object") entry.objects = bounded;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

OomEvents parse_memory_events(std::string_view text) {
  OomEvents events;
  events.low = keyed_number(text, "low");
  events.high = keyed_number(text, "high");
  events.max = keyed_number(text, "max");
  events.oom = keyed_number(text, "oom");
  events.oom_kill = keyed_number(text, "oom_kill");
  events.oom_group_kill = keyed_number(text, "oom_group_kill");
  return events;
}

std::vector<uint16_t> parse_list(std::string_view text) {
  std::vector<uint16_t> out;
  for (text = trim(text); !text.empty();) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    const size_t dash = part.find('-');
    uint64_t first = 0;
    if (!parse_number(part.substr(0, dash), first) || first > UINT16_MAX) return out;
    uint64_t last = first;
    if (dash != std::string_view::npos &&
        (!parse_number(part.substr(dash + 1), last) || last > UINT16_MAX)) {
      return out;
    }
    for (; first <= last; ++first) out.push_back(static_cast<uint16_t>(first));
  }
  return out;
}

}  // namespace amphora::cgroup
