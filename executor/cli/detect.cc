// SPDX-License-Identifier: Apache-2.0
// amphora detect: native or WebAssembly, and why.
#include <string>
#include <utility>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/oci/json_writer.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct DetectOptions {
  bool json = false;
};
constexpr Option kOptions[] = {
    option<&DetectOptions::json>("json", 0, "print JSON"),
};

std::string as_json(const detect::Verdict& verdict) {
  oci::JsonWriter json(2);
  json.open("", '{');
  json.text("kind", detect::to_string(verdict.kind));
  json.text("path", verdict.path);
  if (!verdict.function.empty()) json.text("function", verdict.function);
  json.text("reason", verdict.reason);
  if (!verdict.why_not.empty()) json.text("whyNot", verdict.why_not);
  json.close('}');
  return std::move(json).take() + "\n";
}

std::string as_text(const detect::Verdict& verdict) {
  std::string text = std::string(detect::to_string(verdict.kind)) + "\n";
  const auto line = [&text](const char* name, const std::string& value) {
    if (!value.empty()) text.append("  ").append(name).append(value).append("\n");
  };
  line("path:     ", verdict.path);
  line("function: ", verdict.function);
  line("reason:   ", verdict.reason);
  line("why not:  ", verdict.why_not);
  return text;
}

Result<int> detect_bundle(Context& context, const DetectOptions& line, Arguments arguments) {
  const std::string bundle = arguments.empty() ? "." : arguments[0];
  TRY_ASSIGN(Runtime * runtime, context.runtime_without_root(bundle));
  TRY_ASSIGN(const detect::Verdict verdict, runtime->detect_bundle(bundle));
  TRY(print(line.json ? as_json(verdict) : as_text(verdict)));
  return 0;
}

}  // namespace

constinit const Command kDetectCommand = {
    .name = "detect",
    .summary = "say what a bundle's program is, native or WebAssembly, and why",
    .usage = "[bundle]",
    .description = "Reads the program's first bytes as create would; nothing is created.",
    .options = kOptions,
    .min_arguments = 0,
    .max_arguments = 1,
    .run = &verb<DetectOptions, &detect_bundle>,
};

}  // namespace amphora::cli
