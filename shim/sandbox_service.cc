// SPDX-License-Identifier: Apache-2.0
// The sandbox service. See sandbox_service.h.
#include "shim/sandbox_service.h"

#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <spdlog/logger.h>

#include "common.pb.h"
#include "executor/base/error.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "sandbox.pb.h"
#include "shim/loop.h"
#include "shim/metrics.h"
#include "shim/sandbox_config.h"
#include "shim/status.h"
#include "shim/task.h"
#include "shim/ttrpc/server.h"

namespace amphora::shim {

namespace pb = amphora::proto;

namespace {

// A day: what is longer is meant to be for ever, and would overflow a timer.
constexpr uint32_t kLongestPatience = 86400;
constexpr const char* kSpecType = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

struct Method {
  std::string_view name;
  void (SandboxService::*run)(SandboxService::Call&);
};
constexpr Method kMethods[] = {
    {"CreateSandbox", &SandboxService::create},   {"StartSandbox", &SandboxService::start},
    {"Platform", &SandboxService::platform},      {"StopSandbox", &SandboxService::stop},
    {"WaitSandbox", &SandboxService::wait},       {"SandboxStatus", &SandboxService::status},
    {"PingSandbox", &SandboxService::ping},       {"ShutdownSandbox", &SandboxService::shutdown},
    {"SandboxMetrics", &SandboxService::metrics},
};

void set_time(pb::Timestamp& out, const Time& time) {
  out.set_seconds(time.seconds);
  out.set_nanos(time.nanos);
}

/// Go's name of the machine, as images have it.
std::string architecture() {
  utsname names{};
  ::uname(&names);
  const std::string_view machine(names.machine);
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return std::string(machine);
}

}  // namespace

struct SandboxService::Call {
  ttrpc::Request request;
  ttrpc::Responder responder;
  spdlog::logger& log;

  template <class Message>
  bool decode(Message& message) {
    if (message.ParseFromString(request.payload)) return true;
    responder.fail({ttrpc::Code::kInternal, request.method + ": payload cannot be decoded"});
    return false;
  }

  static void fail(ttrpc::Responder& responder, spdlog::logger& log, const std::string& method,
                   const Error& error) {
    const auto level = error.code() == Errc::kNotFound ? spdlog::level::debug : spdlog::level::err;
    log.log(level, "{}: {}", method, error.what());
    responder.fail(error);
  }

  /// A callback that answers with what `encode` makes of the value.
  template <class T, class Encode>
  Done<T> answer(Encode encode) {
    return [to = std::move(responder), &log = log, method = request.method,
            encode = std::move(encode)](Result<T> result) mutable {
      if (!result) return fail(to, log, method, result.error());
      to.ok(encode(std::move(*result)));
    };
  }
  Done<void> answer_empty() {
    return [to = std::move(responder), &log = log,
            method = request.method](Result<void> result) mutable {
      if (!result) return fail(to, log, method, result.error());
      to.ok(pb::Empty());
    };
  }
};

void SandboxService::handle(ttrpc::Request&& request, ttrpc::Responder responder) {
  for (const auto& [name, run] : kMethods) {
    if (request.method != name) continue;
    log_->debug("{}", request.method);
    Call call{std::move(request), std::move(responder), *log_};
    return (this->*run)(call);
  }
  responder.fail({ttrpc::Code::kUnimplemented, "method " + request.service + "/" + request.method});
}

void SandboxService::create(Call& call) {
  pb::CreateSandboxRequest request;
  if (!call.decode(request)) return;
  auto done = call.answer_empty();
  auto config = parse_sandbox_config(request);
  if (!config) return done(std::unexpected(std::move(config).error()));
  sandbox_.create(std::move(*config),
                  [this, done = std::move(done)](Result<std::vector<oci::Mount>> made) mutable {
                    if (!made) return done(std::unexpected(std::move(made).error()));
                    hooks_.on_mounts(std::move(*made));
                    done({});
                  });
}

void SandboxService::start(Call& call) {
  pb::SandboxRequest request;
  if (!call.decode(request)) return;
  const std::string id = request.sandbox_id();
  sandbox_.start(id, call.answer<uint32_t>([this, id](uint32_t pid) {
    pb::StartSandboxResponse response;
    response.set_pid(pid);
    if (const auto status = sandbox_.status(id)) {
      set_time(*response.mutable_created_at(), status->created);
      response.mutable_spec()->set_type_url(kSpecType);
      response.mutable_spec()->set_value(status->config);
    }
    return response;
  }));
}

void SandboxService::platform(Call& call) {
  pb::PlatformResponse response;
  response.mutable_platform()->set_os("linux");
  response.mutable_platform()->set_architecture(architecture());
  call.responder.ok(response);
}

void SandboxService::stop(Call& call) {
  pb::StopSandboxRequest request;
  if (!call.decode(request)) return;
  const std::chrono::seconds patience(std::min(request.timeout_secs(), kLongestPatience));
  sandbox_.stop(request.sandbox_id(), patience, call.answer_empty());
}

void SandboxService::wait(Call& call) {
  pb::SandboxRequest request;
  if (!call.decode(request)) return;
  auto is_gone = [peer = call.responder.connection()] { return peer.expired(); };
  auto done = call.answer<Exit>([](const Exit& exit) {
    pb::WaitSandboxResponse response;
    response.set_exit_status(exit.status);
    set_time(*response.mutable_exited_at(), exit.at);
    return response;
  });
  sandbox_.wait(request.sandbox_id(), {std::move(done), std::move(is_gone)});
}

void SandboxService::status(Call& call) {
  pb::SandboxStatusRequest request;
  if (!call.decode(request)) return;
  const auto encode = [id = request.sandbox_id(),
                       verbose = request.verbose()](const Sandbox::Status& status) {
    pb::SandboxStatusResponse response;
    response.set_sandbox_id(id);
    response.set_pid(status.pid);
    response.set_state(status.is_ready ? "SANDBOX_READY" : "SANDBOX_NOTREADY");
    set_time(*response.mutable_created_at(), status.created);
    set_time(*response.mutable_exited_at(), status.exit.at);
    if (verbose) {
      // The members that crictl's users know from pause containers; the spec is JSON already.
      (*response.mutable_info())["info"] =
          fmt::format(R"({{"pid":{},"processStatus":"{}","runtimeSpec":{}}})", status.pid,
                      status.is_ready ? "running" : "stopped", status.config);
    }
    return response;
  };
  call.answer<Sandbox::Status>(encode)(sandbox_.status(request.sandbox_id()));
}

void SandboxService::ping(Call& call) {
  pb::SandboxRequest request;
  if (call.decode(request)) call.answer_empty()(sandbox_.check(request.sandbox_id()));
}

void SandboxService::shutdown(Call& call) {
  pb::SandboxRequest request;
  if (!call.decode(request)) return;
  sandbox_.remove(request.sandbox_id(),
                  [this, done = call.answer_empty()](Result<void> removed) mutable {
                    const bool gone = removed.has_value();
                    done(std::move(removed));
                    if (gone) hooks_.shut_down();
                  });
}

void SandboxService::metrics(Call& call) {
  pb::SandboxRequest request;
  if (!call.decode(request)) return;
  const auto encode = [id = request.sandbox_id()](const cgroup::Stats& stats) {
    pb::SandboxMetricsResponse response;
    auto& metric = *response.mutable_metrics();
    set_time(*metric.mutable_timestamp(), Time::now());
    metric.set_id(id);
    encode_stats(stats, *metric.mutable_data());
    return response;
  };
  sandbox_.stats(request.sandbox_id(), call.answer<cgroup::Stats>(encode));
}

}  // namespace amphora::shim
