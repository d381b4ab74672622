// SPDX-License-Identifier: Apache-2.0
// amphora image: hands over to amphora-image, a program of its own, so that the command keeps small.
#include <errno.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "wasm/programs.h"

namespace amphora::cli {
namespace {

struct Nothing {};

Result<int> image_verb(Context&, const Nothing&, Arguments words) {
  const std::string program = wasm::find_programs().image;
  std::vector<char*> argv{const_cast<char*>("amphora-image")};
  for (const char* word : words) argv.push_back(const_cast<char*>(word));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return fail_errno(errno, "execute " + program);
}

}  // namespace

constinit const Command kImageCommand = {
    .name = "image",
    .summary = "build, inspect or verify an image of WebAssembly modules",
    .usage = "build|inspect|verify ...",
    .description =
        "Images are OCI layouts in a tar, for ctr images import, skopeo and others. --help "
        "behind build, inspect or verify shows their options; docs/images.md has the kinds.",
    .options = {},
    .order = Order::kStop,
    .min_arguments = 1,
    .max_arguments = -1,
    .run = &verb<Nothing, &image_verb>,
};

}  // namespace amphora::cli
