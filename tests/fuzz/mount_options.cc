// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: the first line is a mount's type, the second its options with commas between. No
// flag may be asked for on and off at once, all words must be accounted for, and the maps of an
// id-mapped mount must have both halves.
#include "executor/setup/mount_options.h"

#include <linux/mount.h>

#include "executor/setup/idmap.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

/// The access time is a field of its own within the attributes.
constexpr uint64_t kField = MOUNT_ATTR__ATIME;

void check(const oci::Mount& mount, const setup::MountOptions& options) {
  AMPHORA_CHECK((options.ms_flags & options.ms_clear) == 0);
  AMPHORA_CHECK((options.attr_set & options.attr_clr & ~kField) == 0);
  AMPHORA_CHECK((options.attr_clr_named & ~options.attr_clr) == 0);
  AMPHORA_CHECK((options.rec_set & options.rec_clr & ~kField) == 0);
  // mount_setattr: whoever sets the field clears it first, and all of it.
  for (const auto& [set, clear] : {std::pair{options.attr_set, options.attr_clr},
                                   std::pair{options.rec_set, options.rec_clr}}) {
    AMPHORA_CHECK((set & kField) == 0 || (clear & kField) == kField);
    AMPHORA_CHECK((clear & kField) == 0 || (clear & kField) == kField);
  }
  AMPHORA_CHECK(!options.recursive_bind || options.bind);
  AMPHORA_CHECK(!options.recursive_idmap || options.idmap);
  AMPHORA_CHECK(!options.bind || options.data.empty());
  // What the tables know is not handed to the filesystem, and what they do not know is.
  oci::Mount rest;
  rest.type = "tmpfs";
  rest.options = fuzz::split(options.data, ',');
  const auto again = setup::parse_mount_options(rest);
  AMPHORA_CHECK(again && again->data == options.data && again->ms_flags == 0 &&
                again->propagation.empty());
  AMPHORA_CHECK(options.propagation.size() <= mount.options.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  oci::Mount mount;
  mount.destination = "/x";
  mount.type = fuzz::take(text, '\n');
  mount.options = fuzz::split(text, ',');
  const auto options = setup::parse_mount_options(mount);
  fuzz::check_error(options, size);
  if (options) check(mount, *options);
  oci::Linux container;
  container.uid_mappings = {{0, 100000, 65536}, {65536, 4294900000U, 67295}};
  container.gid_mappings = {{0, 200000, 1}};
  const auto maps = setup::parse_idmap(options ? options->idmap_spec : text, container);
  fuzz::check_error(maps, size);
  if (maps) {
    AMPHORA_CHECK(!maps->uids.empty() && !maps->gids.empty());
    for (const auto* list : {&maps->uids, &maps->gids}) {
      for (const auto& map : *list) AMPHORA_CHECK(map.size > 0);
    }
  }
  return 0;
}
