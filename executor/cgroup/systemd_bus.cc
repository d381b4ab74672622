// SPDX-License-Identifier: Apache-2.0
// systemd over D-Bus. See systemd_bus.h and org.freedesktop.systemd1(5).
#include "executor/cgroup/systemd_bus.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/dbus.h"
#include "executor/cgroup/dbus_message.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/gvariant.h"
#include "executor/cgroup/systemd_properties.h"

namespace amphora::cgroup {
namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kBus = "org.freedesktop.DBus";
constexpr std::string_view kNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";
constexpr std::string_view kUnitExists = "org.freedesktop.systemd1.UnitExists";
constexpr const char* kSystemSocket = "unix:path=/run/dbus/system_bus_socket";
constexpr const char* kPrivateSocket = "/run/systemd/private";
constexpr int kTimeoutMs = 30000;

int64_t deadline() { return now_ms() + kTimeoutMs; }

std::string variable(const char* name) {
  const char* value = ::getenv(name);
  return value != nullptr ? value : "";
}

/// Where the bus of this user, or of the system, may be.
std::vector<std::string> bus_sockets(bool user) {
  std::string list = variable(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");
  if (list.empty() && !user) list = kSystemSocket;
  if (!list.empty()) return dbus::socket_names(list);
  const std::string runtime = variable("XDG_RUNTIME_DIR");
  return {(runtime.empty() ? fmt::format("/run/user/{}", ::geteuid()) : runtime) + "/bus"};
}

void append(dbus::Writer& out, const UnitProperty& property) {
  out.pad(8);
  out.text(property.name);
  if (const auto* truth = std::get_if<bool>(&property.value)) {
    out.signature("b");
    out.u32(*truth ? 1 : 0);
  } else if (const auto* number = std::get_if<uint64_t>(&property.value)) {
    out.signature("t");
    out.u64(*number);
  } else if (const auto* text = std::get_if<std::string>(&property.value)) {
    out.signature("s");
    out.text(*text);
  } else if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&property.value)) {
    out.signature("ay");
    const auto array = out.begin_array(1);
    for (const uint8_t byte : *bytes) out.byte(byte);
    out.end_array(array);
  } else if (const auto* names = std::get_if<std::vector<std::string>>(&property.value)) {
    out.signature("as");
    const auto array = out.begin_array(4);
    for (const std::string& name : *names) out.text(name);
    out.end_array(array);
  } else if (const auto* own = std::get_if<DBusValue>(&property.value)) {
    out.signature(own->signature);
    append(out, *own);
  } else {
    out.signature("a(ss)");
    const auto array = out.begin_array(8);
    for (const auto& [first, second] : std::get<StringPairs>(property.value)) {
      out.pad(8);
      out.text(first);
      out.text(second);
    }
    out.end_array(array);
  }
}

void append_pid(dbus::Writer& out, pid_t pid) {
  out.pad(8);
  out.text("PIDs");
  out.signature("au");
  const auto array = out.begin_array(4);
  out.u32(static_cast<uint32_t>(pid));
  out.end_array(array);
}

/// What systemd said, as an error: its own sentence, and its name for it.
Error refusal(const dbus::Message& message, std::string_view what) {
  dbus::Reader in(message.body);
  const std::string_view text = message.signature.starts_with('s') ? in.text() : std::string_view();
  return Error(Errc::kSystem,
               fmt::format("systemd: {}: {}", what,
                           text.empty() ? std::string_view(message.error_name) : text));
}

}  // namespace

Result<Systemd> Systemd::connect(bool user) {
  auto connection = dbus::Connection::open(bus_sockets(user), deadline());
  bool bus = true;
  Result<void> failed;
  const bool refused = !connection;
  if (refused) failed = std::unexpected(connection.error());
  if (refused && !user && ::geteuid() == 0) {
    // A system without a bus: its manager listens for root itself.
    connection = dbus::Connection::open({kPrivateSocket}, deadline());
    bus = false;
  }
  if (!connection) {
    return std::unexpected(
        std::move(failed)
            .error()
            .context(user ? "connect to the user's systemd" : "connect to systemd")
            .hint("the systemd cgroup driver needs systemd and its D-Bus"));
  }
  Systemd systemd(std::move(*connection), bus);
  TRY(systemd.prepare());
  return systemd;
}

Result<void> Systemd::prepare() {
  // All on their way at once, answers after.
  uint32_t hello = 0, match = 0;
  if (bus_) {
    TRY_ASSIGN(hello, connection_.send({kBus, "/org/freedesktop/DBus", kBus, "Hello", "", ""},
                                       deadline()));
    dbus::Writer rule;
    rule.text(fmt::format("type='signal',sender='{}',path='{}',interface='{}',member='JobRemoved'",
                          kService, kPath, kManager));
    TRY_ASSIGN(match, connection_.send(
                          {kBus, "/org/freedesktop/DBus", kBus, "AddMatch", "s", rule.bytes()},
                          deadline()));
  }
  TRY_ASSIGN(const uint32_t subscribe, send("Subscribe", "", ""));
  TRY_ASSIGN(const uint32_t version, ask_property(kPath, kManager, "Version"));
  if (bus_) {
    TRY(reply(hello, "greet the bus"));
    TRY(reply(match, "watch jobs"));
  }
  TRY(reply(subscribe, "watch jobs"));
  TRY_ASSIGN(const std::string text, read_property(version, "its version"));
  version_ = parse_systemd_version(text);
  return {};
}

Result<uint32_t> Systemd::send(const char* method, std::string_view signature,
                               std::string_view body) {
  return connection_.send({bus_ ? kService : "", kPath, kManager, method, signature, body},
                          deadline());
}

Result<dbus::Message> Systemd::reply(uint32_t serial, std::string_view what) {
  auto message = connection_.reply(serial, deadline());
  if (!message) {
    return std::unexpected(std::move(message).error().context(fmt::format("systemd: {}", what)));
  }
  if (message->type == dbus::Type::kError) return std::unexpected(refusal(*message, what));
  return message;
}

Result<dbus::Message> Systemd::call(const char* method, std::string_view signature,
                                    std::string_view body, std::string_view what) {
  TRY_ASSIGN(const uint32_t serial, send(method, signature, body));
  auto message = connection_.reply(serial, deadline());
  if (message) return message;
  return std::unexpected(std::move(message).error().context(fmt::format("systemd: {}", what)));
}

Result<uint32_t> Systemd::ask_property(const std::string& path, const char* interface,
                                       const char* name) {
  dbus::Writer body;
  body.text(interface);
  body.text(name);
  return connection_.send(
      {bus_ ? kService : "", path, "org.freedesktop.DBus.Properties", "Get", "ss", body.bytes()},
      deadline());
}

Result<std::string> Systemd::read_property(uint32_t serial, std::string_view what) {
  TRY_ASSIGN(const dbus::Message message, reply(serial, fmt::format("read {}", what)));
  dbus::Reader in(message.body);
  const bool text = in.signature() == "s";
  std::string value(in.text());
  if (!text || !in.ok()) {
    return fail(Errc::kInternal, fmt::format("systemd: read {}: not a text", what));
  }
  return value;
}

Result<void> Systemd::wait_job(const dbus::Message& started, std::string_view unit) {
  dbus::Reader path(started.body);
  const std::string_view job = path.text();
  const int64_t until = deadline();
  for (;;) {
    auto signal = connection_.signal(until);
    if (!signal) {
      return std::unexpected(
          std::move(signal).error().context(fmt::format("systemd: wait for {}", unit)));
    }
    if (signal->member != "JobRemoved" || signal->signature != "uoss") continue;
    dbus::Reader in(signal->body);
    in.u32();
    if (in.text() != job) continue;
    in.text();
    const std::string_view result = in.text();
    if (result == "done") return {};
    return fail(Errc::kSystem, fmt::format("systemd: job of {} ended as \"{}\"", unit, result));
  }
}

Result<void> Systemd::start_transient(const std::string& unit,
                                      const std::vector<UnitProperty>& properties, pid_t pid) {
  dbus::Writer body;
  body.text(unit);
  body.text("replace");
  const auto list = body.begin_array(8);
  for (const UnitProperty& property : properties) append(body, property);
  if (pid != 0) append_pid(body, pid);
  body.end_array(list);
  const auto none = body.begin_array(8);  // auxiliary units
  body.end_array(none);
  const std::string what = "start " + unit;
  TRY_ASSIGN(dbus::Message answer,
             call("StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes(), what));
  if (answer.type == dbus::Type::kError && answer.error_name == kUnitExists) {
    // A scope that ended in failure keeps its name until it is told to forget.
    dbus::Writer name;
    name.text(unit);
    TRY(call("ResetFailedUnit", "s", name.bytes(), "reset " + unit));
    TRY_ASSIGN(answer, call("StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes(), what));
  }
  if (answer.type == dbus::Type::kError) return std::unexpected(refusal(answer, what));
  return wait_job(answer, unit);
}

Result<void> Systemd::set_properties(const std::string& unit,
                                     const std::vector<UnitProperty>& properties) {
  if (properties.empty()) return {};
  dbus::Writer body;
  body.text(unit);
  body.u32(1);  // until the next boot only
  const auto list = body.begin_array(8);
  for (const UnitProperty& property : properties) append(body, property);
  body.end_array(list);
  const std::string what = "set properties of " + unit;
  TRY_ASSIGN(const dbus::Message answer, call("SetUnitProperties", "sba(sv)", body.bytes(), what));
  if (answer.type == dbus::Type::kError) return std::unexpected(refusal(answer, what));
  return {};
}

Result<void> Systemd::stop(const std::string& unit) {
  dbus::Writer body;
  body.text(unit);
  body.text("replace");
  TRY_ASSIGN(const dbus::Message answer, call("StopUnit", "ss", body.bytes(), "stop " + unit));
  if (answer.type == dbus::Type::kError) {
    if (answer.error_name == kNoSuchUnit) return {};
    return std::unexpected(refusal(answer, "stop " + unit));
  }
  TRY(wait_job(answer, unit));
  dbus::Writer name;
  name.text(unit);
  // Gone already unless it failed; then it would keep its name.
  TRY(call("ResetFailedUnit", "s", name.bytes(), "reset " + unit));
  return {};
}

Result<std::string> Systemd::control_group(const std::string& unit) {
  const std::string object = fmt::format("{}/unit/{}", kPath, dbus::escape_path(unit));
  TRY_ASSIGN(const uint32_t serial,
             ask_property(object,
                          unit.ends_with(".slice") ? "org.freedesktop.systemd1.Slice"
                                                   : "org.freedesktop.systemd1.Scope",
                          "ControlGroup"));
  return read_property(serial, "the cgroup of " + unit);
}

}  // namespace amphora::cgroup
