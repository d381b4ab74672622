// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: an image's index, manifest and config, a component's sections, and a message between
// amphora-content and its client. All are their authors' bytes. What is accepted names digests that can be
// files of a content store and nothing else.
#include <algorithm>
#include <string_view>

#include "image/component.h"
#include "image/manifest.h"
#include "tests/fuzz/support.h"
#include "wasm/content_protocol.h"

namespace {

using namespace amphora;

void check_descriptor(const image::Descriptor& one, size_t size) {
  AMPHORA_CHECK(image::is_digest(one.digest));
  AMPHORA_CHECK(one.digest.find('/') == std::string::npos && one.digest.size() == 71);
  AMPHORA_CHECK(one.media_type.size() <= size);
  // What is WebAssembly is never unpacked as files, whatever its packing.
  AMPHORA_CHECK(!image::is_wasm_layer(one.media_type) || !image::is_tar_layer(one.media_type) ||
                one.media_type.find("+wasm") != std::string::npos);
}

void check_documents(std::string_view text) {
  if (const auto index = image::parse_index(text)) {
    for (const image::Descriptor& one : *index) check_descriptor(one, text.size());
  }
  if (const auto manifest = image::parse_manifest(text)) {
    check_descriptor(manifest->config, text.size());
    for (const image::Descriptor& one : manifest->layers) check_descriptor(one, text.size());
  }
  if (const auto config = image::parse_config(text)) {
    AMPHORA_CHECK(config->entrypoint.size() + config->cmd.size() + config->env.size() <=
                  text.size());
  }
}

void check_component(std::string_view bytes) {
  const auto names = image::component_names(bytes);
  if (!names) return;
  AMPHORA_CHECK(image::binary_of(bytes) == image::Binary::kComponent);
  size_t total = 0;
  for (const auto* list : {&names->imports, &names->exports}) {
    for (const std::string& name : *list) total += name.size() + 1;
  }
  AMPHORA_CHECK(total <= bytes.size());
}

void check_message(std::string_view bytes) {
  const auto fields = wasm::unpack(bytes);
  size_t total = 0;
  for (const std::string& field : fields) {
    AMPHORA_CHECK(field.find('\0') == std::string::npos);
    total += field.size();
  }
  AMPHORA_CHECK(total <= bytes.size());
  const std::vector<std::string_view> views(fields.begin(), fields.end());
  AMPHORA_CHECK(wasm::unpack(wasm::pack(views)) == fields);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_documents(text);
  check_component(text);
  check_message(text);
  return 0;
}
