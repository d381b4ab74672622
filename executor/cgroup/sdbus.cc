// SPDX-License-Identifier: Apache-2.0
// systemd over libsystemd's sd-bus. See sdbus.h.
#include "executor/cgroup/sdbus.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <utility>

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include "executor/cgroup/files.h"

namespace amphora::cgroup {
namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";
constexpr const char* kUnitExists = "org.freedesktop.systemd1.UnitExists";
constexpr int kJobTimeoutMs = 30000;

/// The functions used, by their own names, so that a call reads as in sd-bus(3).
struct Api {
  void* library = nullptr;
#define AMPHORA_SD(name) decltype(&::name) name = nullptr
  AMPHORA_SD(sd_bus_open_system);
  AMPHORA_SD(sd_bus_open_user);
  AMPHORA_SD(sd_bus_flush_close_unref);
  AMPHORA_SD(sd_bus_call);
  AMPHORA_SD(sd_bus_process);
  AMPHORA_SD(sd_bus_wait);
  AMPHORA_SD(sd_bus_match_signal);
  AMPHORA_SD(sd_bus_get_property_string);
  AMPHORA_SD(sd_bus_path_encode);
  AMPHORA_SD(sd_bus_error_free);
  AMPHORA_SD(sd_bus_message_new_method_call);
  AMPHORA_SD(sd_bus_message_append);
  AMPHORA_SD(sd_bus_message_append_array);
  AMPHORA_SD(sd_bus_message_open_container);
  AMPHORA_SD(sd_bus_message_close_container);
  AMPHORA_SD(sd_bus_message_read);
  AMPHORA_SD(sd_bus_message_unref);
#undef AMPHORA_SD
};

Result<Api> load_api() {
  Api api;
  api.library = ::dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
  if (api.library == nullptr) {
    return fail(Errc::kUnsupported, fmt::format("load libsystemd: {}", ::dlerror()));
  }
  bool complete = true;
  const auto find = [&]<class F>(F& function, const char* name) {
    // SAFETY: dlsym's void* is the function of that name, whose type the header gives.
    function = reinterpret_cast<F>(::dlsym(api.library, name));
    complete = complete && function != nullptr;
  };
#define AMPHORA_SD(name) find(api.name, #name)
  AMPHORA_SD(sd_bus_open_system);
  AMPHORA_SD(sd_bus_open_user);
  AMPHORA_SD(sd_bus_flush_close_unref);
  AMPHORA_SD(sd_bus_call);
  AMPHORA_SD(sd_bus_process);
  AMPHORA_SD(sd_bus_wait);
  AMPHORA_SD(sd_bus_match_signal);
  AMPHORA_SD(sd_bus_get_property_string);
  AMPHORA_SD(sd_bus_path_encode);
  AMPHORA_SD(sd_bus_error_free);
  AMPHORA_SD(sd_bus_message_new_method_call);
  AMPHORA_SD(sd_bus_message_append);
  AMPHORA_SD(sd_bus_message_append_array);
  AMPHORA_SD(sd_bus_message_open_container);
  AMPHORA_SD(sd_bus_message_close_container);
  AMPHORA_SD(sd_bus_message_read);
  AMPHORA_SD(sd_bus_message_unref);
#undef AMPHORA_SD
  if (!complete) return fail(Errc::kUnsupported, "load libsystemd: it lacks a function of sd-bus");
  return api;
}

struct Job {
  const Api* api = nullptr;
  std::string path, result;  // result: empty until the job is removed
  std::vector<std::pair<std::string, std::string>> removed;
};

int on_job_removed(sd_bus_message* message, void* data, sd_bus_error*) {
  auto* job = static_cast<Job*>(data);
  uint32_t id = 0;
  const char *path = nullptr, *unit = nullptr, *result = nullptr;
  if (job->api->sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) < 0) return 0;
  // The signal may come before the reply that names the job.
  job->removed.emplace_back(path, result);
  return 0;
}

class SdBus : public Systemd {
 public:
  SdBus(const Api& api, sd_bus* bus) : api_(api), bus_(bus) { job_.api = &api_; }
  ~SdBus() override { api_.sd_bus_flush_close_unref(bus_); }
  SdBus(const SdBus&) = delete;
  SdBus& operator=(const SdBus&) = delete;

  Result<void> prepare();
  unsigned version() const noexcept override { return version_; }
  Result<void> start_transient(const std::string& unit, const std::vector<UnitProperty>& properties,
                               pid_t pid) override;
  Result<void> set_properties(const std::string& unit,
                              const std::vector<UnitProperty>& properties) override;
  Result<void> stop(const std::string& unit) override;
  Result<std::string> control_group(const std::string& unit) override;

 private:
  struct Unref {
    const Api* api;
    void operator()(sd_bus_message* m) const noexcept { api->sd_bus_message_unref(m); }
  };
  using Message = std::unique_ptr<sd_bus_message, Unref>;

  Result<Message> new_call(const char* method);
  /// `error_name` gets the D-Bus name of a refusal.
  Result<Message> send(Message call, std::string_view what, std::string* error_name = nullptr);
  Result<Message> simple(const char* method, std::string_view unit, const char* mode,
                         std::string* error_name);
  int append(sd_bus_message* m, const std::vector<UnitProperty>& properties);
  int append(sd_bus_message* m, const UnitProperty& property);
  Result<void> wait_job(std::string_view unit);
  Result<std::string> property(const std::string& path, const char* interface, const char* name);

  Api api_;
  sd_bus* bus_;
  Job job_;
  unsigned version_ = 0;
};

Result<SdBus::Message> SdBus::new_call(const char* method) {
  sd_bus_message* raw = nullptr;
  const int r = api_.sd_bus_message_new_method_call(bus_, &raw, kService, kPath, kManager, method);
  if (r < 0) return fail_errno(-r, fmt::format("prepare systemd's {}", method));
  return Message(raw, Unref{&api_});
}

Result<SdBus::Message> SdBus::send(Message call, std::string_view what, std::string* error_name) {
  sd_bus_error error{};
  sd_bus_message* raw = nullptr;
  const int r = api_.sd_bus_call(bus_, call.get(), uint64_t{kJobTimeoutMs} * 1000, &error, &raw);
  if (r >= 0) return Message(raw, Unref{&api_});
  if (error_name != nullptr && error.name != nullptr) *error_name = error.name;
  Error out = Error::from_errno(-r, fmt::format("systemd: {}", what));
  const std::string advice = error.message != nullptr ? error.message : "";
  api_.sd_bus_error_free(&error);
  if (advice.empty()) return std::unexpected(std::move(out));
  return std::unexpected(std::move(out).hint(advice));
}

Result<SdBus::Message> SdBus::simple(const char* method, std::string_view unit, const char* mode,
                                     std::string* error_name) {
  TRY_ASSIGN(Message call, new_call(method));
  const std::string name(unit);
  const int r = mode != nullptr ? api_.sd_bus_message_append(call.get(), "ss", name.c_str(), mode)
                                : api_.sd_bus_message_append(call.get(), "s", name.c_str());
  if (r < 0) return fail_errno(-r, fmt::format("prepare systemd's {}", method));
  return send(std::move(call), fmt::format("{} {}", method, unit), error_name);
}

int SdBus::append(sd_bus_message* m, const UnitProperty& property) {
  const char* name = property.name.c_str();
  if (const auto* flag = std::get_if<bool>(&property.value)) {
    return api_.sd_bus_message_append(m, "(sv)", name, "b", static_cast<int>(*flag));
  }
  if (const auto* number = std::get_if<uint64_t>(&property.value)) {
    return api_.sd_bus_message_append(m, "(sv)", name, "t", *number);
  }
  if (const auto* text = std::get_if<std::string>(&property.value)) {
    return api_.sd_bus_message_append(m, "(sv)", name, "s", text->c_str());
  }
  int r = api_.sd_bus_message_open_container(m, 'r', "sv");
  if (r >= 0) r = api_.sd_bus_message_append(m, "s", name);
  if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&property.value)) {
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'v', "ay");
    if (r >= 0) r = api_.sd_bus_message_append_array(m, 'y', bytes->data(), bytes->size());
  } else if (const auto* names = std::get_if<std::vector<std::string>>(&property.value)) {
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'v', "as");
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'a', "s");
    for (const std::string& text : *names) {
      if (r >= 0) r = api_.sd_bus_message_append(m, "s", text.c_str());
    }
    if (r >= 0) r = api_.sd_bus_message_close_container(m);
  } else {
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'v', "a(ss)");
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'a', "(ss)");
    for (const auto& [first, second] : std::get<StringPairs>(property.value)) {
      if (r >= 0) r = api_.sd_bus_message_append(m, "(ss)", first.c_str(), second.c_str());
    }
    if (r >= 0) r = api_.sd_bus_message_close_container(m);
  }
  if (r >= 0) r = api_.sd_bus_message_close_container(m);
  return r >= 0 ? api_.sd_bus_message_close_container(m) : r;
}

int SdBus::append(sd_bus_message* m, const std::vector<UnitProperty>& properties) {
  int r = 0;
  for (const UnitProperty& property : properties) {
    if (r >= 0) r = append(m, property);
  }
  return r;
}

Result<void> SdBus::prepare() {
  const int r = api_.sd_bus_match_signal(bus_, nullptr, kService, kPath, kManager, "JobRemoved",
                                         on_job_removed, &job_);
  if (r < 0) return fail_errno(-r, "systemd: watch jobs");
  TRY_ASSIGN(Message subscribe, new_call("Subscribe"));
  TRY(send(std::move(subscribe), "Subscribe"));
  TRY_ASSIGN(const std::string text, property(kPath, kManager, "Version"));
  version_ = parse_systemd_version(text);
  return {};
}

Result<std::string> SdBus::property(const std::string& path, const char* interface,
                                    const char* name) {
  sd_bus_error error{};
  char* text = nullptr;
  const int r =
      api_.sd_bus_get_property_string(bus_, kService, path.c_str(), interface, name, &error, &text);
  api_.sd_bus_error_free(&error);
  if (r < 0) return fail_errno(-r, fmt::format("systemd: read {} of {}", name, path));
  std::string value(text);
  ::free(text);
  return value;
}

Result<void> SdBus::wait_job(std::string_view unit) {
  const int64_t deadline = now_ms() + kJobTimeoutMs;
  for (;;) {
    for (const auto& [path, result] : job_.removed) {
      if (path != job_.path) continue;
      if (result == "done") return {};
      return fail(Errc::kSystem, fmt::format("systemd: job of {} ended as \"{}\"", unit, result));
    }
    int r = api_.sd_bus_process(bus_, nullptr);
    const int64_t left = deadline - now_ms();
    if (r == 0 && left > 0) r = api_.sd_bus_wait(bus_, static_cast<uint64_t>(left) * 1000);
    if (r < 0 && r != -EINTR) return fail_errno(-r, fmt::format("systemd: wait for {}", unit));
    if (left <= 0) {
      return fail(Errc::kSystem, fmt::format("systemd: no answer about {} within {} s", unit,
                                             kJobTimeoutMs / 1000));
    }
  }
}

Result<void> SdBus::start_transient(const std::string& unit,
                                    const std::vector<UnitProperty>& properties, pid_t pid) {
  for (const bool again : {false, true}) {
    TRY_ASSIGN(Message call, new_call("StartTransientUnit"));
    sd_bus_message* m = call.get();
    int r = api_.sd_bus_message_append(m, "ss", unit.c_str(), "replace");
    if (r >= 0) r = api_.sd_bus_message_open_container(m, 'a', "(sv)");
    if (r >= 0) r = append(m, properties);
    if (r >= 0 && pid != 0) {
      r = api_.sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, static_cast<uint32_t>(pid));
    }
    if (r >= 0) r = api_.sd_bus_message_close_container(m);
    if (r >= 0) r = api_.sd_bus_message_append(m, "a(sa(sv))", 0);
    if (r < 0) return fail_errno(-r, "prepare systemd's StartTransientUnit");
    std::string error_name;
    job_.removed.clear();
    auto reply = send(std::move(call), "start " + unit, &error_name);
    if (reply) {
      const char* path = nullptr;
      r = api_.sd_bus_message_read(reply->get(), "o", &path);
      if (r < 0) return fail_errno(-r, "systemd: read the job of " + unit);
      job_.path = path;
      return wait_job(unit);
    }
    // A scope that ended in failure keeps its name until it is told to forget.
    if (error_name != kUnitExists || again) return std::unexpected(std::move(reply).error());
    static_cast<void>(simple("ResetFailedUnit", unit, nullptr, nullptr));
  }
  return {};
}

Result<void> SdBus::set_properties(const std::string& unit,
                                   const std::vector<UnitProperty>& properties) {
  if (properties.empty()) return {};
  TRY_ASSIGN(Message call, new_call("SetUnitProperties"));
  sd_bus_message* m = call.get();
  int r = api_.sd_bus_message_append(m, "sb", unit.c_str(), 1);
  if (r >= 0) r = api_.sd_bus_message_open_container(m, 'a', "(sv)");
  if (r >= 0) r = append(m, properties);
  if (r >= 0) r = api_.sd_bus_message_close_container(m);
  if (r < 0) return fail_errno(-r, "prepare systemd's SetUnitProperties");
  auto reply = send(std::move(call), "set properties of " + unit);
  if (!reply) return std::unexpected(std::move(reply).error());
  return {};
}

Result<void> SdBus::stop(const std::string& unit) {
  std::string error_name;
  job_.removed.clear();
  auto reply = simple("StopUnit", unit, "replace", &error_name);
  if (!reply) {
    if (error_name == kNoSuchUnit) return {};
    return std::unexpected(std::move(reply).error());
  }
  const char* path = nullptr;
  const int r = api_.sd_bus_message_read(reply->get(), "o", &path);
  if (r < 0) return fail_errno(-r, "systemd: read the job of " + unit);
  job_.path = path;
  TRY(wait_job(unit));
  static_cast<void>(simple("ResetFailedUnit", unit, nullptr, nullptr));
  return {};
}

Result<std::string> SdBus::control_group(const std::string& unit) {
  char* path = nullptr;
  const int r = api_.sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit.c_str(), &path);
  if (r < 0) return fail_errno(-r, "systemd: name of " + unit);
  const std::string object(path);
  ::free(path);
  return property(object,
                  unit.ends_with(".slice") ? "org.freedesktop.systemd1.Slice"
                                           : "org.freedesktop.systemd1.Scope",
                  "ControlGroup");
}

}  // namespace

Result<std::unique_ptr<Systemd>> connect_systemd(bool user) {
  TRY_ASSIGN(const Api api, load_api());
  sd_bus* bus = nullptr;
  const int r = user ? api.sd_bus_open_user(&bus) : api.sd_bus_open_system(&bus);
  if (r < 0) {
    return std::unexpected(
        Error::from_errno(-r, user ? "connect to the user's systemd" : "connect to systemd")
            .hint("the systemd cgroup driver needs systemd and its D-Bus"));
  }
  auto systemd = std::make_unique<SdBus>(api, bus);
  TRY(systemd->prepare());
  return systemd;
}

}  // namespace amphora::cgroup
