// SPDX-License-Identifier: Apache-2.0
// amphora-image: what `amphora image` executes. build, inspect, verify; a program of its own so that
// the command, which starts containers, links none of its libraries.
#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cli/options.h"
#include "image/build.h"
#include "image/layout.h"
#include "image/manifest.h"

namespace amphora::image {
namespace {

using cli::option;
using Words = std::span<const char* const>;

constexpr cli::Option kBuildOptions[] = {
    option<&BuildRequest::repo>("repo", 'r', "registry and path: ghcr.io/me"),
    option<&BuildRequest::name>("name", 'n', "name of the image"),
    option<&BuildRequest::tag>("tag", 't', "its tag", "\"latest\""),
    option<&BuildRequest::out>("out-path", 'o', "the tar to write; - is stdout"),
    option<&BuildRequest::modules>("module", 'm', "a module or component; may be repeated"),
    option<&BuildRequest::layers>("layer", 'l',
                                  "MEDIATYPE=FILE, a layer of any type; +gzip or +zstd at the "
                                  "type's end compresses it; may be repeated"),
    option<&BuildRequest::components>("components", 'c', "a directory: every .wasm in it"),
    option<&BuildRequest::artifact>("as-artifact", 'a', "a CNCF Wasm OCI artifact, no image"),
    option<&BuildRequest::tar>("tar", 0,
                               "modules as files in an ordinary layer: for every containerd"),
    option<&BuildRequest::files>("file", 'f',
                                 "SOURCE:DESTINATION[:MODE], a file or directory in an ordinary "
                                 "layer; may be repeated"),
    option<&BuildRequest::compress>("compress", 0, "of the ordinary layer: none, gzip or zstd",
                                    "\"none\""),
    option<&BuildRequest::entrypoint>(
        "entrypoint", 0,
        "a word of the entrypoint; may be repeated; none and no --cmd: the first module"),
    option<&BuildRequest::cmd>("cmd", 0, "a word of the command; may be repeated"),
    option<&BuildRequest::env>("env", 'e', "NAME=VALUE; may be repeated"),
    option<&BuildRequest::labels>("label", 0, "NAME=VALUE; may be repeated"),
    option<&BuildRequest::annotations>("annotation", 0,
                                       "NAME=VALUE of the manifest; may be repeated"),
    option<&BuildRequest::user>("user", 'u', "user of the container"),
    option<&BuildRequest::workdir>("workdir", 'w', "working directory of the container"),
    option<&BuildRequest::author>("author", 0, "who made it"),
    option<&BuildRequest::platforms>(
        "platform", 'p',
        "OS/ARCHITECTURE; several make an index (default: wasip1/wasm, "
        "wasip2/wasm for a component, the host's with --tar)"),
    option<&BuildRequest::index>("index", 0, "an index also for one platform"),
    option<&BuildRequest::created>("created", 0, "its time, as 2026-01-31T00:00:00Z",
                                   "$SOURCE_DATE_EPOCH, else 1970"),
};

struct InspectOptions {
  bool json = false;
};
constexpr cli::Option kInspectOptions[] = {
    option<&InspectOptions::json>("json", 0, "print JSON"),
};
struct VerifyOptions {};

std::string help_of(const char* usage, const char* what, std::span<const cli::Option> options) {
  std::string out = std::string("usage: amphora image ") + usage + "\n" + what + "\n";
  for (const cli::Option& row : options) {
    std::string left = std::string("  --") + row.name;
    if (row.alias != 0) left.append(", -").append(1, row.alias);
    if (row.takes == cli::Takes::kValue) left += " value";
    left.resize(std::max(left.size() + 2, size_t{28}), ' ');
    out += left + row.help;
    if (row.shown_default != nullptr)
      out.append(" (default: ").append(row.shown_default).append(")");
    out += "\n";
  }
  return out;
}

Result<int> build_verb(Words words) {
  BuildRequest request;
  TRY_ASSIGN(const auto parsed,
             cli::parse_options(kBuildOptions, cli::Order::kAnywhere, words, &request));
  if (parsed.help) {
    TRY(write_all(
        1, help_of("build -r REPO -n NAME -m FILE -o OUT [options]",
                   "Writes an OCI layout in a tar, for ctr images import, skopeo and others; "
                   "the same input gives the same bytes.",
                   kBuildOptions)));
    return 0;
  }
  if (!parsed.arguments.empty()) {
    return fail(Errc::kInvalid, std::string("build: ") + parsed.arguments[0] + " is no option");
  }
  TRY_ASSIGN(const std::string digest, build(request));
  // The tar itself may be on stdout.
  TRY(write_all(request.out == "-" ? 2 : 1, digest + "\n"));
  return 0;
}

nlohmann::ordered_json as_json(const Found& image) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const Descriptor& layer : image.manifest.layers) {
    const auto title = layer.annotations.find(std::string(kTitle));
    layers.push_back(
        {{"mediaType", layer.media_type}, {"digest", layer.digest}, {"size", layer.size}});
    if (title != layer.annotations.end()) layers.back()["title"] = title->second;
  }
  return {
      {"name", image.name},
      {"target", image.target.digest},
      {"kind", kind_of(image)},
      {"manifest", image.described.digest},
      {"config",
       {{"mediaType", image.manifest.config.media_type}, {"digest", image.manifest.config.digest}}},
      {"platform", image.config.platform.text()},
      {"entrypoint", image.config.entrypoint},
      {"cmd", image.config.cmd},
      {"env", image.config.env},
      {"layers", layers}};
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string as_text(const Found& image) {
  std::string out = image.name + "\n";
  const auto line = [&out](const char* name, const std::string& value) {
    if (!value.empty()) out += "  " + std::string(name) + value + "\n";
  };
  line("kind:       ", kind_of(image));
  line("platform:   ", image.config.platform.text());
  line("target:     ", image.target.digest);
  line("manifest:   ", image.described.digest);
  line("config:     ", image.manifest.config.digest + " " + image.manifest.config.media_type);
  line("entrypoint: ", joined(image.config.entrypoint));
  line("cmd:        ", joined(image.config.cmd));
  for (const Descriptor& layer : image.manifest.layers) {
    const auto title = layer.annotations.find(std::string(kTitle));
    line("layer:      ", layer.digest + " " + std::to_string(layer.size) + " " + layer.media_type +
                             (title == layer.annotations.end() ? "" : " " + title->second));
  }
  return out;
}

Result<int> inspect_verb(Words words) {
  InspectOptions options;
  TRY_ASSIGN(const auto parsed,
             cli::parse_options(kInspectOptions, cli::Order::kAnywhere, words, &options));
  if (parsed.help || parsed.arguments.size() != 1) {
    TRY(write_all(parsed.help ? 1 : 2,
                  help_of("inspect [--json] FILE", "Shows the images of a tar.", kInspectOptions)));
    return parsed.help ? 0 : 1;
  }
  TRY_ASSIGN(const Layout layout, read_layout(parsed.arguments[0]));
  if (layout.images.empty()) {
    return fail(Errc::kInvalid, std::string(parsed.arguments[0]) + ": no image in it: " +
                                    (layout.problems.empty() ? "" : layout.problems[0]));
  }
  std::string out;
  auto json = nlohmann::ordered_json::array();
  for (const Found& image : layout.images) {
    if (options.json) json.push_back(as_json(image));
    out += as_text(image);
  }
  if (options.json) {
    out = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  TRY(write_all(1, out));
  return 0;
}

Result<int> verify_verb(Words words) {
  VerifyOptions options;
  TRY_ASSIGN(const auto parsed, cli::parse_options({}, cli::Order::kAnywhere, words, &options));
  if (parsed.help || parsed.arguments.size() != 1) {
    TRY(write_all(
        parsed.help ? 1 : 2,
        help_of("verify FILE",
                "Checks every digest, size, reference and layer of a tar. Exit code 1 and a line "
                "for each thing that is wrong.",
                {})));
    return parsed.help ? 0 : 1;
  }
  TRY_ASSIGN(Layout layout, read_layout(parsed.arguments[0]));
  TRY(check_layers(layout));
  for (const std::string& problem : layout.problems) TRY(write_all(2, problem + "\n"));
  return layout.problems.empty() ? 0 : 1;
}

Result<int> run(Words words) {
  const std::string_view verb = words.empty() ? "help" : words[0];
  if (verb == "build") return build_verb(words.subspan(1));
  if (verb == "inspect") return inspect_verb(words.subspan(1));
  if (verb == "verify") return verify_verb(words.subspan(1));
  if (verb != "help" && verb != "--help" && verb != "-h") {
    return fail(Errc::kInvalid, "\"" + std::string(verb) + "\": build, inspect or verify");
  }
  TRY(write_all(1, "usage: amphora image build|inspect|verify ...   (--help after each)\n"));
  return 0;
}

}  // namespace
}  // namespace amphora::image

int main(int argc, char* argv[]) {
  using amphora::write_all;
  try {  // the last door: nothing of ours throws, but libraries and the allocator may
    const std::vector<const char*> words(argv + (argc > 0 ? 1 : 0), argv + argc);
    const auto code = amphora::image::run(words);
    if (code) return *code;
    static_cast<void>(write_all(2, "amphora image: " + code.error().what() + "\n"));
  } catch (const std::exception& e) {
    static_cast<void>(write_all(2, std::string("amphora image: ") + e.what() + "\n"));
  }
  return 1;
}
