// SPDX-License-Identifier: Apache-2.0
// Runtime options. See options.h.
#include "shim/options.h"

#include "common.pb.h"
#include "options.pb.h"
#include "runtime_options.pb.h"

namespace amphora::shim {
namespace {

void take_runc(const std::string& bytes, RuntimeOptions& out) {
  containerd::runc::v1::Options options;
  if (!options.ParseFromString(bytes)) {
    out.notes.push_back("runtime options cannot be decoded: ignored");
    return;
  }
  out.no_pivot_root = options.no_pivot_root();
  out.no_new_keyring = options.no_new_keyring();
  out.systemd_cgroup = options.systemd_cgroup();
  out.shim_cgroup = options.shim_cgroup();
  out.root = options.root();
  // proto3 cannot tell 0 from absent; 0 is the owner such a FIFO has anyway.
  if (options.io_uid() != 0) out.io_owner.uid = options.io_uid();
  if (options.io_gid() != 0) out.io_owner.gid = options.io_gid();
  if (!options.binary_name().empty()) {
    out.notes.push_back("runtime option binary_name is ignored: no other runtime is called");
  }
}

}  // namespace

std::string type_name(const std::string& type_url) {
  const size_t slash = type_url.rfind('/');
  return slash == std::string::npos ? type_url : type_url.substr(slash + 1);
}

RuntimeOptions parse_options(const proto::Any& any) {
  RuntimeOptions out;
  const std::string name = type_name(any.type_url());
  if (name == "containerd.runc.v1.Options") {
    take_runc(any.value(), out);
  } else if (name == "runtimeoptions.v1.Options") {
    runtimeoptions::v1::Options options;
    if (!options.ParseFromString(any.value()) || !options.config_path().empty() ||
        !options.config_body().empty()) {
      out.notes.push_back("runtime configuration file is ignored: there are no settings in it");
    }
  } else if (!name.empty()) {
    out.notes.push_back("runtime options of type " + name + " are unknown: ignored");
  }
  return out;
}

}  // namespace amphora::shim
