// SPDX-License-Identifier: Apache-2.0
// The v1 freezer. Freezing is a request that the kernel works on while tasks come to a stop; asking
// again makes it look at tasks forked meanwhile, and a thaw in between gets it unstuck.
#include <errno.h>

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/v1.h"

namespace amphora::cgroup {
namespace {

constexpr int kTries = 1000;
constexpr int kThawEvery = 50;

Result<void> freeze(const std::string& dir) {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    // A ptraced or freshly forked task can keep the state at FREEZING for ever; runc met this in the
    // field and thaws now and then, and so do we.
    if (attempt % kThawEvery == kThawEvery - 1) {
      TRY(write_value(dir, "freezer.state", "THAWED"));
      sleep_ms(10);
    }
    TRY(write_value(dir, "freezer.state", "FROZEN"));
    // The first readings come at once: an idle container is frozen by the time write returns.
    if (attempt >= 3) sleep_ms(attempt % kThawEvery < 25 ? 1 : 10);
    TRY_ASSIGN(const std::string state, read_value(dir, "freezer.state"));
    if (trim(state) == "FROZEN") return {};
  }
  static_cast<void>(write_value(dir, "freezer.state", "THAWED"));
  return fail(Errc::kSystem,
              fmt::format("unable to freeze {}: still freezing after {} tries", dir, kTries));
}

}  // namespace

Result<void> freeze_v1(const std::string& dir, bool frozen) {
  if (frozen) return freeze(dir);
  TRY(write_value(dir, "freezer.state", "THAWED"));
  TRY_ASSIGN(const std::string state, read_value(dir, "freezer.state"));
  if (trim(state) == "THAWED") return {};
  const auto parent = read_number(dir, "freezer.parent_freezing");
  if (parent && *parent != 0) {
    return fail(Errc::kPrecondition, "unable to thaw " + dir + ": a parent cgroup is frozen");
  }
  return fail(Errc::kSystem, fmt::format("unable to thaw {}: state is {}", dir, trim(state)));
}

Result<bool> is_frozen_v1(const std::string& dir) {
  auto state = read_value(dir, "freezer.state");
  if (!state) {
    // Removed meanwhile: what is gone is not frozen.
    const int err = state.error().sys_errno();
    if (err == ENOENT || err == ENODEV) return false;
    return std::unexpected(std::move(state).error());
  }
  if (trim(*state) == "THAWED") return false;
  // FREEZING counts: whoever asked meant it. But only if it was asked of this cgroup: a frozen
  // parent shows here as well.
  TRY_ASSIGN(const uint64_t self, read_number(dir, "freezer.self_freezing"));
  return self == 1;
}

}  // namespace amphora::cgroup
