// SPDX-License-Identifier: Apache-2.0
// amphora spec: writes a config.json to start from.
#include "executor/oci/spec.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <expected>
#include <optional>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/setup/host.h"

namespace amphora::cli {
namespace {

constexpr char kName[] = "config.json";

struct SpecOptions {
  std::string bundle;
  bool rootless = false;
};
constexpr Option kOptions[] = {
    option<&SpecOptions::bundle>("bundle", 'b', "path to the root of the bundle directory"),
    option<&SpecOptions::rootless>("rootless", 0,
                                   "generate a configuration for a rootless container"),
};

Result<int> spec(Context&, const SpecOptions& line, Arguments) {
  TRY_ASSIGN(const UniqueFd dir,
             open_at(AT_FDCWD, line.bundle.empty() ? "." : line.bundle, O_PATH | O_DIRECTORY));
  // O_EXCL both looks and makes: nothing that appears meanwhile is overwritten.
  auto file = open_at(dir.get(), kName, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (!file && file.error().sys_errno() == EEXIST) {
    return fail(Errc::kExists, std::string("File ") + kName + " exists. Remove it first");
  }
  if (!file) return std::unexpected(std::move(file).error());
  std::optional<oci::Ids> rootless;
  if (line.rootless) rootless = oci::Ids{geteuid(), getegid()};
  const auto cgroups = setup::on_cgroup2() ? oci::CgroupNamespace::kYes : oci::CgroupNamespace::kNo;
  TRY(write_all(file->get(), oci::default_spec_json(rootless, cgroups)));
  return 0;
}

}  // namespace

constinit const Command kSpecCommand = {
    .name = "spec",
    .summary = "create a new specification file",
    .usage = "",
    .description =
        "Writes config.json with a program (\"sh\"), namespaces, mounts and capabilities\n"
        "that suit most; edit it to your needs. An existing file is left alone.",
    .options = kOptions,
    .run = &verb<SpecOptions, &spec>,
};

}  // namespace amphora::cli
