// SPDX-License-Identifier: Apache-2.0
// amphora list: all containers below the state root.
#include <pwd.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/cli/words.h"
#include "executor/oci/json_writer.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct ListOptions {
  std::string format = "table";
  bool quiet = false;
};
constexpr Option kOptions[] = {
    option<&ListOptions::format>("format", 'f', words::kFormat, "\"table\""),
    option<&ListOptions::quiet>("quiet", 'q', "display only container IDs"),
};

struct Row {
  Runtime::Report report;
  std::string owner;
  int pid = 0;  // 0 when stopped
};

std::string user_name(uid_t uid) {
  // The file itself and not NSS, which would need the loader in a static program; as runc has it.
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/etc/passwd", "re"), std::fclose);
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  while (file != nullptr &&
         fgetpwent_r(file.get(), &entry, buffer.data(), buffer.size(), &found) == 0) {
    if (found->pw_uid == uid) return found->pw_name;
  }
  return "#" + std::to_string(uid);
}

/// The user whose directory it is.
std::string owner_of(Runtime& runtime, const std::string& id) {
  const auto entry = runtime.store().peek(id);
  struct stat info{};
  if (!entry || fstat(entry->dir_fd(), &info) != 0) return {};
  return user_name(info.st_uid);
}

Result<std::vector<Row>> rows_of(Context& context) {
  auto runtime = context.runtime();
  if (!runtime) {
    // The default root is made by the first create; a root that somebody named ought to be there.
    const bool no_root = runtime.error().code() == Errc::kNotFound;
    if (no_root && !context.globals().root) return std::vector<Row>();
    if (no_root) {
      return fail(Errc::kNotFound, "open " + context.root() + ": no such file or directory");
    }
    return std::unexpected(std::move(runtime).error());
  }
  TRY_ASSIGN(auto reports, (*runtime)->list());
  std::vector<Row> rows;
  for (Runtime::Report& report : reports) {
    const int pid = report.status == oci::Status::kStopped ? 0 : report.state.pid;
    std::string owner = owner_of(**runtime, report.state.id);
    rows.push_back({std::move(report), std::move(owner), pid});
  }
  return rows;
}

std::string as_json(const std::vector<Row>& rows) {
  if (rows.empty()) return "null";  // Go's rendering of an empty slice, which callers know
  oci::JsonWriter json;
  json.open("", '[');
  for (const Row& row : rows) {
    const oci::State& state = row.report.state;
    json.open("", '{');
    json.text("ociVersion", state.oci_version);
    json.text("id", state.id);
    json.number("pid", int64_t{row.pid});
    json.text("status", oci::to_string(row.report.status));
    json.text("bundle", state.bundle);
    json.text("rootfs", state.rootfs);
    json.text("created", state.created);
    if (!state.annotations.empty()) json.map("annotations", state.annotations);
    json.text("owner", row.owner);
    json.close('}');
  }
  json.close(']');
  return std::move(json).take();
}

std::string as_table(const std::vector<Row>& rows) {
  std::vector<std::vector<std::string>> cells = {
      {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const Row& row : rows) {
    const oci::State& state = row.report.state;
    cells.push_back({state.id, std::to_string(row.pid), oci::to_string(row.report.status),
                     state.bundle, state.created, row.owner});
  }
  return table(cells);
}

Result<int> list(Context& context, const ListOptions& line, Arguments) {
  if (line.format != "table" && line.format != "json") {
    return fail(Errc::kInvalid, "invalid format option");
  }
  TRY_ASSIGN(const std::vector<Row> rows, rows_of(context));
  std::string text;
  if (line.quiet) {
    for (const Row& row : rows) text += row.report.state.id + "\n";
  } else {
    text = line.format == "json" ? as_json(rows) : as_table(rows);
  }
  TRY(print(text));
  return 0;
}

}  // namespace

constinit const Command kListCommand = {
    .name = "list",
    .summary = "lists containers started with the given root",
    .usage = "",
    .description = "The root is that of the global option --root.",
    .options = kOptions,
    .run = &verb<ListOptions, &list>,
};

}  // namespace amphora::cli
