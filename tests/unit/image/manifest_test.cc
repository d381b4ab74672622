// SPDX-License-Identifier: Apache-2.0
// Media types and documents: what counts as a wasm layer, what is refused, and that nothing throws.
#include "image/manifest.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::image {
namespace {

using ::testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(MediaType, WasmIsATypeOrASuffixOrAnEnginesOwn) {
  for (const char* type :
       {"application/wasm", "application/wasm+gzip", "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        "application/vnd.wasm.content.layer.v1+wasm+zstd"}) {
    EXPECT_TRUE(is_wasm_layer(type)) << type;
  }
  for (const char* type : {"application/vnd.oci.image.layer.v1.tar", "application/wasm.html", "",
                           "application/vnd.oci.image.layer.v1.tar+gzip", "application/wasmer"}) {
    EXPECT_FALSE(is_wasm_layer(type)) << type;
  }
  EXPECT_TRUE(is_wasm_layer("application/vnd.engine.blob", {"application/vnd.engine.blob"}));
  EXPECT_TRUE(is_wasm_layer("application/vnd.engine.blob+gzip", {"application/vnd.engine.blob"}));
}

TEST(MediaType, PackingIsTheLastSuffix) {
  EXPECT_EQ(packing_of("application/wasm"), Packing::kNone);
  EXPECT_EQ(packing_of("application/wasm+gzip"), Packing::kGzip);
  EXPECT_EQ(packing_of("application/vnd.oci.image.layer.v1.tar+zstd"), Packing::kZstd);
  EXPECT_EQ(packing_of("application/vnd.docker.image.rootfs.diff.tar.gzip"), Packing::kGzip);
}

TEST(Digest, OnlyLowerCaseSha256) {
  EXPECT_TRUE(is_digest(kDigest));
  EXPECT_FALSE(is_digest("sha256:" + std::string(64, 'A')));
  EXPECT_FALSE(is_digest("sha256:" + std::string(63, 'a')));
  EXPECT_FALSE(is_digest("sha512:" + std::string(128, 'a')));
  EXPECT_FALSE(is_digest("sha256:../../../../../../../../../../../../../../../../../../../../etc"));
}

TEST(Manifest, LayersAndAnnotations) {
  const auto manifest =
      parse_manifest(R"({"schemaVersion":2,"config":{"mediaType":"c","digest":")" + kDigest +
                     R"(","size":3},"layers":[{"mediaType":"application/wasm","digest":")" +
                     kDigest + R"(","size":7,"annotations":{"a":"b","n":1}}]})");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().what();
  ASSERT_EQ(manifest->layers.size(), 1U);
  EXPECT_EQ(manifest->layers[0].size, 7U);
  EXPECT_EQ(manifest->layers[0].annotations.at("a"), "b");
  EXPECT_FALSE(manifest->layers[0].annotations.contains("n"));
}

TEST(Manifest, WhatIsWrongIsNamed) {
  const auto error = [](const std::string& text) {
    const auto manifest = parse_manifest(text);
    return manifest ? "accepted" : manifest.error().what();
  };
  EXPECT_THAT(error("nonsense"), HasSubstr("the manifest is not a JSON object"));
  EXPECT_THAT(error("[]"), HasSubstr("the manifest is not a JSON object"));
  EXPECT_THAT(error("{}"), HasSubstr("the manifest has no config"));
  EXPECT_THAT(error(R"({"config":7})"), HasSubstr("config is no object"));
  EXPECT_THAT(error(R"({"config":{"digest":"sha256:x","size":1}})"), HasSubstr("config.digest"));
  const std::string config = R"("config":{"digest":")" + kDigest + R"(","size":1})";
  EXPECT_THAT(error("{" + config + "}"), HasSubstr("layers is missing"));
  EXPECT_THAT(error("{" + config + R"(,"layers":[{"digest":")" + kDigest + R"(","size":-1}]})"),
              HasSubstr("layers[0].size"));
  EXPECT_THAT(error(std::string(kMaxDocument + 1, ' ')), HasSubstr("has more than"));
}

TEST(Config, OfAnImageAndOfAnArtifact) {
  const auto image = parse_config(
      R"({"os":"wasip1","architecture":"wasm","config":{"Entrypoint":["/a"],"Cmd":["b",7]},"rootfs":{"diff_ids":["x"]}})");
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->platform.text(), "wasip1/wasm");
  EXPECT_TRUE(image->platform.is_wasm());
  EXPECT_EQ(image->entrypoint, std::vector<std::string>{"/a"});
  EXPECT_EQ(image->cmd, std::vector<std::string>{"b"});
  const auto artifact =
      parse_config(R"({"os":"wasip2","architecture":"wasm","layerDigests":["d"]})");
  ASSERT_TRUE(artifact.has_value());
  EXPECT_EQ(artifact->layer_digests, std::vector<std::string>{"d"});
}

TEST(Platform, Words) {
  EXPECT_EQ(parse_platform("linux/arm/v7")->text(), "linux/arm/v7");
  EXPECT_FALSE(parse_platform("linux").has_value());
  EXPECT_FALSE(parse_platform("/wasm").has_value());
}

}  // namespace
}  // namespace amphora::image
