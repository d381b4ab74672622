// SPDX-License-Identifier: Apache-2.0
// -info. See info.h.
#include "shim/info.h"

#include <unistd.h>

#include <cstdio>

#include "bootstrap.pb.h"
#include "executor/base/fd.h"
#include "executor/cli/features.h"
#include "executor/setup/host.h"

namespace amphora::shim {

int print_info() {
  const auto host = setup::probe_host();
  if (!host) {
    ::fprintf(stderr, "info: %s\n", host.error().what().c_str());
    return 1;
  }
  proto::RuntimeInfo info;
  info.set_name("io.containerd.amphora.v1");
  info.mutable_version()->set_version(AMPHORA_VERSION);
  const auto options = read_all(STDIN_FILENO, 10U << 20);
  if (options && !options->empty() && !info.mutable_options()->ParseFromString(*options)) {
    info.clear_options();
  }
  auto& features = *info.mutable_features();
  features.set_type_url("types.containerd.io/opencontainers/runtime-spec/1/features/Features");
  features.set_value(cli::features_json(*host));
  return write_all(STDOUT_FILENO, info.SerializeAsString()) ? 0 : 1;
}

}  // namespace amphora::shim
