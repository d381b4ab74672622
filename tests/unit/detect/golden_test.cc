// SPDX-License-Identifier: Apache-2.0
// Every file of tests/golden/detect is a container (files, spec) and the verdict expected of it,
// and every row of docs/detection.md names one. Needs no root: files live in a temporary directory,
// and a stand-in answers for the wat parser. AMPHORA_UPDATE_GOLDEN=1 rewrites the verdicts, for
// review.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "detect/detect.h"

namespace amphora::detect {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(AMPHORA_TESTS_DIR) / "golden/detect";

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

/// Stands in for the compile process: wat is what has a module or a func in balanced brackets.
Result<void> stand_in_wat_check(int module) {
  std::string text(4096, '\0');
  const auto n = ::pread(module, text.data(), text.size(), 0);
  if (n < 0) return fail_errno(errno, "pread");
  text.resize(static_cast<size_t>(n));
  const auto open = std::ranges::count(text, '('), close = std::ranges::count(text, ')');
  const bool field = text.contains("(module") || text.contains("(func");
  if (field && open == close) return {};
  return fail(Errc::kInvalid, field ? "1:1: unclosed `(`" : "1:2: expected `module` or a field");
}

struct Case {
  std::string head;  ///< comment, files and spec as they are in the file
  std::vector<std::string> files;
  std::string spec, verdict;
  bool mounts_made = false;
};

Case parse_case(const fs::path& path) {
  Case result;
  std::istringstream in(slurp(path));
  std::string section;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("--- ")) section = line.substr(4);
    if (section != "verdict") result.head += line + "\n";
    if (line.starts_with("--- ") || line.starts_with("#")) continue;
    if (section == "files" && !line.empty()) result.files.push_back(line);
    if (section == "spec" || section == "spec mounts_made") result.spec += line + "\n";
    if (section == "verdict") result.verdict += line + "\n";
    result.mounts_made |= section == "spec mounts_made";
  }
  return result;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-detect-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    fs::create_directory(root_ / "rootfs");
  }
  void TearDown() override { fs::remove_all(root_); }

  /// "file PATH MODE text|hex CONTENT", "fill PATH MODE SIZE CONTENT", "dir PATH", "fifo PATH",
  /// "symlink PATH TARGET".
  void make(const std::string& line) {
    std::istringstream in(line);
    std::string what, path, mode, form, content;
    in >> what >> path;
    const auto full = root_ / path;
    fs::create_directories(full.parent_path());
    if (what == "dir") {
      fs::create_directories(full);
    } else if (what == "fifo") {
      ASSERT_EQ(::mkfifo(full.c_str(), 0777), 0);
    } else if (what == "symlink") {
      in >> content;
      fs::create_symlink(content, full);
    } else {
      ASSERT_TRUE(what == "file" || what == "fill") << line;
      in >> mode >> form;
      std::getline(in, content);
      if (!content.empty()) content.erase(0, 1);
      write(full, what == "fill" ? "text" : form, content, what == "fill" ? std::stoul(form) : 0);
      ASSERT_EQ(::chmod(full.c_str(), static_cast<mode_t>(std::stoul(mode, nullptr, 8))), 0);
    }
  }

  static void write(const fs::path& path, const std::string& form, std::string content,
                    size_t size) {
    if (form == "hex") {
      std::istringstream in(content);
      content.clear();
      for (unsigned byte = 0; in >> std::hex >> byte;) content += static_cast<char>(byte);
    } else {
      replace_all(content, "\\n", "\n");
    }
    if (content.size() < size) content.resize(size, ' ');
    std::ofstream(path, std::ios::binary) << content;
  }

  std::string verdict(const Case& test) {
    std::string json = test.spec;
    replace_all(json, "@HOST@", (root_ / "host").string());
    replace_all(json, "@UID@", std::to_string(::geteuid()));
    replace_all(json, "@GID@", std::to_string(::getegid()));
    const auto spec = oci::parse_spec(json);
    if (!spec) return "spec: " + spec.error().what() + "\n";
    const UniqueFd rootfs(::open((root_ / "rootfs").c_str(), O_PATH | O_CLOEXEC));
    const UniqueFd bundle(::open(root_.c_str(), O_PATH | O_CLOEXEC));
    auto found = detect(*spec, *spec->process, rootfs.get(), stand_in_wat_check, test.mounts_made,
                        bundle.get());
    if (!found) return "error: " + found.error().what() + "\n";
    EXPECT_EQ(static_cast<bool>(found->module), found->kind != Kind::kNative);
    auto text = fmt::format("kind: {}\npath: {}\nfunction: {}\nreason: {}\nwhy_not: {}\n",
                            to_string(found->kind), found->path, found->function, found->reason,
                            found->why_not);
    replace_all(text, ": \n", ":\n");
    replace_all(text, root_.string(), "@BUNDLE@");
    return text;
  }

  fs::path root_;
};

TEST_P(Golden, HasTheVerdictWrittenDown) {
  const auto file = kGolden / (GetParam() + ".txt");
  const auto test = parse_case(file);
  for (const auto& line : test.files) ASSERT_NO_FATAL_FAILURE(make(line));
  const auto found = verdict(test);
  if (::getenv("AMPHORA_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(file) << test.head << "--- verdict\n" << found;
    return;
  }
  EXPECT_EQ(found, test.verdict) << file;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGolden)) names.push_back(entry.path().stem());
  std::ranges::sort(names);
  return names;
}

std::string test_name(const testing::TestParamInfo<std::string>& param) {
  std::string name = param.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Detect, Golden, testing::ValuesIn(golden_names()), test_name);

TEST(DetectionDocument, EachRowNamesAGoldenFileAndEachFileHasARow) {
  std::istringstream in(slurp(fs::path(AMPHORA_TESTS_DIR) / "../docs/detection.md"));
  std::set<std::string> named;
  size_t rows = 0;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| ") || line.starts_with("| ---") || line.contains("| example |"))
      continue;
    ++rows;
    bool found = false;
    constexpr std::string_view kFolder = "golden/detect/";
    for (size_t at = 0; (at = line.find(kFolder, at)) != line.npos; found = true) {
      at += kFolder.size();
      named.insert(line.substr(at, line.find(".txt", at) - at));
    }
    EXPECT_TRUE(found) << "row names no golden file: " << line;
  }
  EXPECT_GE(rows, 20U) << "the tables of docs/detection.md were not found";
  const auto names = golden_names();
  EXPECT_EQ(named, std::set<std::string>(names.begin(), names.end()));
}

}  // namespace
}  // namespace amphora::detect
