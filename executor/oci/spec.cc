// SPDX-License-Identifier: Apache-2.0
// The doors of the parser (load_spec, parse_*) and the top level of config.json: version, root,
// mounts, hooks, annotations. The objects below `process`, `linux` and `linux.resources` have files
// of their own beside this one.
#include "executor/oci/spec.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/document.h"
#include "executor/oci/spec_readers.h"

namespace amphora::oci {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes a decimal number of at most three digits off the front; -1 if there is none.
int take_number(std::string_view& text) {
  int number = 0;
  size_t digits = 0;
  while (digits < text.size() && digits < 4 && is_digit(text[digits])) {
    number = number * 10 + (text[digits++] - '0');
  }
  if (digits == 0 || digits > 3) return -1;
  text.remove_prefix(digits);
  return number;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

/// 1.0.0 to 1.3.x with any semver suffix ("1.0.2-dev", "1.1.0+dev"); crun 1.8.1 showed what happens
/// to those who accept less.
bool is_supported_version(std::string_view version) {
  const int major = take_number(version);
  if (!take(version, '.')) return false;
  const int minor = take_number(version);
  if (!take(version, '.')) return false;
  const int patch = take_number(version);
  if (major != 1 || minor < 0 || minor > 3 || patch < 0) return false;
  if (version.empty()) return true;
  if (version.size() == 1 || (version[0] != '-' && version[0] != '+')) return false;
  return std::ranges::all_of(version.substr(1), [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '-' || c == '+';
  });
}

void read_annotations(const Object& object, std::map<std::string, std::string>& out) {
  object.get("annotations", out);
  if (out.contains("")) object.fail("annotations", "has an empty key");
}

/// The members of a config.json that the shim's start path wants, and nothing else.
struct Annotations {
  std::map<std::string, std::string> map;
};

void read(Value value, Annotations& out) { read_annotations(Object(value), out.map); }

}  // namespace

void check_absolute(const Object& object, std::string_view name, const std::string& path) {
  if (!path.starts_with('/'))
    object.fail(name, fmt::format("\"{}\" is not an absolute path", path));
}

void read_id(Value value, uint32_t& out) {
  uint64_t number = 0;
  if (read_unsigned(value, 0xfffffffeU, number)) out = static_cast<uint32_t>(number);
}

void read(Value value, Root& out) {
  const Object object(value);
  object.require("path", out.path);
  object.get("readonly", out.readonly);
  if (out.path.empty()) object.fail("path", "is empty");
}

void read(Value value, IdMapping& out) {
  const Object object(value);
  object.require("containerID", out.container_id);
  object.require("hostID", out.host_id);
  object.require("size", out.size);
}

void read(Value value, Mount& out) {
  const Object object(value);
  object.require("destination", out.destination);
  object.get("type", out.type);
  object.get("source", out.source);
  object.get("options", out.options);
  object.get("uidMappings", out.uid_mappings);
  object.get("gidMappings", out.gid_mappings);
  if (out.destination.empty()) object.fail("destination", "is empty");
}

void read(Value value, Hook& out) {
  const Object object(value);
  object.require("path", out.path);
  object.get("args", out.args);
  object.get("env", out.env);
  object.get("timeout", out.timeout);
  check_absolute(object, "path", out.path);
  check_env(object);
  if (out.timeout && *out.timeout <= 0) {
    object.fail("timeout", fmt::format("{} is not greater than 0", *out.timeout));
  }
}

void read(Value value, Hooks& out) {
  const Object object(value);
  object.get("prestart", out.prestart);
  object.get("createRuntime", out.create_runtime);
  object.get("createContainer", out.create_container);
  object.get("startContainer", out.start_container);
  object.get("poststart", out.poststart);
  object.get("poststop", out.poststop);
}

void read(Value value, Spec& out) {
  const Object object(value);
  object.require("ociVersion", out.oci_version);
  if (!is_supported_version(out.oci_version)) {
    object.fail("ociVersion", fmt::format("\"{}\" is not supported (1.0.0 to 1.3.x are)",
                                          std::string_view(out.oci_version).substr(0, 64)));
  }
  object.get("process", out.process);
  object.require("root", out.root);
  object.get("hostname", out.hostname);
  object.get("domainname", out.domainname);
  object.get("mounts", out.mounts);
  object.get("hooks", out.hooks);
  read_annotations(object, out.annotations);
  object.get("linux", out.linux_);
}

const Namespace* Spec::find_namespace(NamespaceKind kind) const noexcept {
  for (const auto& entry : linux_.namespaces) {
    if (entry.kind == kind) return &entry;
  }
  return nullptr;
}

Result<Spec> load_spec(int bundle_fd, std::vector<UniqueFd>* keep) {
  auto text = read_record_at(bundle_fd, "config.json", kMaxJsonBytes, keep);
  if (!text) return std::unexpected(std::move(text).error().context("load spec"));
  auto spec = parse_spec(*text);
  if (!spec) return std::unexpected(std::move(spec).error().context("config.json"));
  return spec;
}

Result<Spec> parse_spec(std::string_view json) { return read_document<Spec>(json); }

Result<Process> parse_process(std::string_view json) { return read_document<Process>(json); }

Result<Resources> parse_resources(std::string_view json) { return read_document<Resources>(json); }

Result<std::map<std::string, std::string>> parse_annotations(std::string_view json) {
  TRY_ASSIGN(auto annotations, read_document<Annotations>(json));
  return std::move(annotations.map);
}

}  // namespace amphora::oci
