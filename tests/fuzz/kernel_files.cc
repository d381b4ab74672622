// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any text as /proc/self/cgroup (up to a line "--") and /proc/self/mountinfo, as
// files of a cgroup, and as a cgroup path. A nested host's tables are another's to write, so what
// comes of them must be paths, and no text may make more values than it has bytes.
#include "executor/base/path.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/parse.h"
#include "executor/cgroup/systemd_properties.h"
#include "executor/setup/host_parse.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

void check_tables(std::string_view text) {
  const size_t end = text.find("--\n");
  const auto own = setup::parse_own_cgroups(text.substr(0, end));
  for (const auto& [controllers, path] : own.v1) {
    AMPHORA_CHECK(!controllers.empty() && path.starts_with('/'));
  }
  AMPHORA_CHECK(own.unified.empty() || own.unified.starts_with('/'));
  const size_t hierarchies = own.v1.size();
  const std::string_view mounts =
      end == std::string_view::npos ? std::string_view() : text.substr(end + 3);
  setup::Host whole, lines;
  setup::CgroupTable at_once(own), by_line(own);
  at_once.add_mounts(mounts);
  for (std::string_view rest = mounts; !rest.empty();) by_line.add_mounts(fuzz::take(rest, '\n'));
  AMPHORA_CHECK(at_once.complete() == by_line.complete());
  at_once.fill(whole);
  by_line.fill(lines);
  AMPHORA_CHECK(whole.unified_mount == lines.unified_mount);
  AMPHORA_CHECK(whole.hierarchies.size() == lines.hierarchies.size());
  AMPHORA_CHECK(whole.hierarchies.size() <= hierarchies);
  for (const auto& hierarchy : whole.hierarchies) {
    AMPHORA_CHECK(hierarchy.own_path.starts_with('/') && !hierarchy.mount_point.empty());
  }
}

void check_files(std::string_view text) {
  using namespace cgroup;
  const size_t most = text.size();
  AMPHORA_CHECK(parse_flat_keyed(text).size() <= most);
  AMPHORA_CHECK(parse_numbers(text).size() <= most);
  AMPHORA_CHECK(parse_blkio(text).size() <= most);
  const IoStats io = parse_io_stat(text);
  AMPHORA_CHECK(io.service_bytes.size() + io.serviced.size() <= most);
  AMPHORA_CHECK(parse_rdma(text).size() <= most);
  static_cast<void>(parse_pressure(text));
  static_cast<void>(parse_memory_events(text));
  static_cast<void>(parse_systemd_version(text));
  // "0-65535" is the longest that one pair of numbers gives.
  AMPHORA_CHECK(parse_list(text).size() <= (most + 1) / 2 * 65536);
  const auto mask = cpu_mask(text);
  fuzz::check_error(mask, most);
  if (mask) AMPHORA_CHECK(mask->size() <= 65536 / 8);
}

/// A cgroup path leads nowhere outside, and slices nest.
void check_paths(std::string_view text) {
  const std::string clean = path::clean(text);
  AMPHORA_CHECK(path::clean(clean) == clean);
  AMPHORA_CHECK(clean.size() <= std::max<size_t>(text.size(), 1));
  const auto path = cgroup::resolve_path(text, "id", "/base");
  fuzz::check_error(path, text.size());
  if (path) {
    AMPHORA_CHECK(path->starts_with('/') && path::clean(*path) == *path);
    AMPHORA_CHECK(text.starts_with('/') || path::is_below(*path, "/base"));
    for (const auto part : path::components(*path)) AMPHORA_CHECK(part != "..");
  }
  const auto unit = cgroup::parse_unit_path(text, "id", /*rootless=*/false);
  fuzz::check_error(unit, text.size());
  if (!unit) return;
  AMPHORA_CHECK(!cgroup::unit_name(*unit).empty());
  const auto slice = cgroup::expand_slice(unit->slice);
  fuzz::check_error(slice, text.size());
  if (slice) AMPHORA_CHECK(slice->starts_with('/') && slice->find("//") == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  check_tables(text);
  check_files(text);
  check_paths(text.substr(0, text.find('\n')));
  return 0;
}
