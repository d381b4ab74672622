// SPDX-License-Identifier: Apache-2.0
// The command's wiring: which store, host and executors its runtime works with. See context.h.
#include "executor/cli/context.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/cli/wiring.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"

namespace amphora::cli {

std::string default_root() {
  const char* runtime_dir = secure_getenv("XDG_RUNTIME_DIR");
  if (runtime_dir == nullptr || *runtime_dir != '/') return "/run/amphora";
  bool ours = geteuid() != 0;
  if (!ours && setup::in_user_namespace()) {
    // Root in somebody's user namespace keeps that somebody's $USER.
    const char* user = secure_getenv("USER");
    ours = user == nullptr || std::string_view(user) != "root";
  }
  return ours ? path::join(runtime_dir, "amphora") : "/run/amphora";
}

Context::Context(const char* program, Globals globals)
    : program_(program),
      name_(path::base_name(program) == "runc" ? "runc" : "amphora"),
      globals_(std::move(globals)),
      log_({globals_.log, globals_.log_format == "json", globals_.debug}) {}

Context::~Context() = default;

Result<Runtime*> Context::runtime(CreateRoot create) {
  if (runtime_) return runtime_.get();
  auto store = Store::open(root(), create == CreateRoot::kYes);
  if (!store) {
    if (store.error().code() == Errc::kNotFound) {
      return fail(Errc::kNotFound, "container does not exist");
    }
    return std::unexpected(std::move(store).error());
  }
  return over(std::move(*store));
}

Result<Runtime*> Context::runtime_without_root(const std::string& bundle) {
  // The runtime wants a store; an existing directory in which it is never asked to make anything.
  char here[PATH_MAX];
  if (realpath(bundle.c_str(), here) == nullptr) return fail_errno(errno, "bundle " + bundle);
  TRY_ASSIGN(Store store, Store::open(here, /*create=*/false));
  return over(std::move(store));
}

Result<Runtime*> Context::over(Store store) {
  TRY_ASSIGN(setup::Host host, setup::probe_host());
  runtime_ = make_runtime(std::move(store), std::move(host), children_);
  return runtime_.get();
}

}  // namespace amphora::cli
