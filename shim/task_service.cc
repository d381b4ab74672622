// SPDX-License-Identifier: Apache-2.0
// The task services. See task_service.h.
#include "shim/task_service.h"

#include <unistd.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <spdlog/logger.h>

#include "common.pb.h"
#include "executor/base/error.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"
#include "options.pb.h"
#include "shim/loop.h"
#include "shim/metrics.h"
#include "shim/options.h"
#include "shim/status.h"
#include "shim/supervisor.h"
#include "shim/task.h"
#include "shim/ttrpc/server.h"
#include "task.pb.h"

namespace amphora::shim {

namespace pb = amphora::proto;

namespace {

struct Method {
  std::string_view name;
  void (TaskService::*run)(TaskService::Call&);
};
constexpr Method kMethods[] = {
    {"State", &TaskService::state},
    {"Create", &TaskService::create},
    {"Start", &TaskService::start},
    {"Delete", &TaskService::remove},
    {"Pids", &TaskService::pids},
    {"Pause", &TaskService::pause},
    {"Resume", &TaskService::resume},
    {"Checkpoint", &TaskService::checkpoint},
    {"Kill", &TaskService::kill},
    {"Exec", &TaskService::exec},
    {"ResizePty", &TaskService::resize_pty},
    {"CloseIO", &TaskService::close_io},
    {"Update", &TaskService::update},
    {"Wait", &TaskService::wait},
    {"Stats", &TaskService::stats},
    {"Connect", &TaskService::connect},
    {"Shutdown", &TaskService::shutdown},
};

void set_time(pb::Timestamp& out, const Time& time) {
  out.set_seconds(time.seconds);
  out.set_nanos(time.nanos);
}

pb::TaskStatus status_of(const Task& task, const TaskProcess& process) {
  // An exec is frozen with its container.
  if (process.is<Running>() && task.init.is<Paused>()) return pb::PAUSED;
  if (process.is<CreatedPhase>()) return pb::CREATED;
  if (process.is<Running>()) return pb::RUNNING;
  if (process.is<Paused>()) return pb::PAUSED;
  if (process.is<Stopped>()) return pb::STOPPED;
  return pb::UNKNOWN;
}

}  // namespace

/// One request on its way: payload, the duty to answer, and the words for the log.
struct TaskService::Call {
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
    // Absence is an everyday answer: clients look before they act.
    const auto level = error.code() == Errc::kNotFound ? spdlog::level::debug : spdlog::level::err;
    log.log(level, "{}: {}", method, error.what());
    responder.fail(error);
  }

  /// A callback that answers with Empty, or with the error, which it logs.
  Done<void> answer_empty() {
    return [to = std::move(responder), &log = log,
            method = request.method](Result<void> result) mutable {
      if (!result) return fail(to, log, method, result.error());
      to.ok(pb::Empty());
    };
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
};

void TaskService::handle(ttrpc::Request&& request, ttrpc::Responder responder) {
  if (request.service != "containerd.task.v2.Task" &&
      request.service != "containerd.task.v3.Task") {
    return responder.fail({ttrpc::Code::kUnimplemented, "service " + request.service});
  }
  for (const auto& [name, run] : kMethods) {
    if (request.method != name) continue;
    log_->debug("{}", request.method);
    Call call{std::move(request), std::move(responder), *log_};
    return (this->*run)(call);
  }
  responder.fail({ttrpc::Code::kUnimplemented, "method " + request.service + "/" + request.method});
}

void TaskService::state(Call& call) {
  pb::ProcessRequest request;
  if (!call.decode(request)) return;
  const auto encode = [](const Supervisor::Report& report) {
    const auto& process = *report.process;
    pb::StateResponse response;
    response.set_id(process.exec_id.empty() ? report.task->id : process.exec_id);
    response.set_bundle(report.task->bundle);
    response.set_pid(process.pid());
    response.set_status(status_of(*report.task, process));
    response.set_stdin(process.stdio.in);
    response.set_stdout(process.stdio.out);
    response.set_stderr(process.stdio.err);
    response.set_terminal(process.stdio.terminal);
    response.set_exit_status(process.exit().status);
    set_time(*response.mutable_exited_at(), process.exit().at);
    response.set_exec_id(process.exec_id);
    return response;
  };
  call.answer<Supervisor::Report>(encode)(supervisor_.state(request.id(), request.exec_id()));
}

void TaskService::create(Call& call) {
  pb::CreateTaskRequest request;
  if (!call.decode(request)) return;
  CreateRequest create{request.id(),
                       request.bundle(),
                       request.checkpoint(),
                       {},
                       {request.stdin(), request.stdout(), request.stderr(), request.terminal()},
                       parse_options(request.options()),
                       {}};
  for (const auto& mount : request.rootfs()) {
    create.rootfs.push_back({mount.type(),
                             mount.source(),
                             mount.target(),
                             {mount.options().begin(), mount.options().end()}});
  }
  supervisor_.create(std::move(create), call.answer<uint32_t>([](uint32_t pid) {
    pb::CreateTaskResponse response;
    response.set_pid(pid);
    return response;
  }));
}

void TaskService::start(Call& call) {
  pb::ProcessRequest request;
  if (!call.decode(request)) return;
  supervisor_.start(request.id(), request.exec_id(), call.answer<uint32_t>([](uint32_t pid) {
    pb::StartResponse response;
    response.set_pid(pid);
    return response;
  }));
}

void TaskService::remove(Call& call) {
  pb::ProcessRequest request;
  if (!call.decode(request)) return;
  supervisor_.remove(request.id(), request.exec_id(),
                     call.answer<Supervisor::Deleted>([](const Supervisor::Deleted& deleted) {
                       pb::DeleteResponse response;
                       response.set_pid(deleted.pid);
                       response.set_exit_status(deleted.exit.status);
                       set_time(*response.mutable_exited_at(), deleted.exit.at);
                       return response;
                     }));
}

void TaskService::pids(Call& call) {
  pb::TaskRequest request;
  if (!call.decode(request)) return;
  using Pids = std::vector<Supervisor::Pid>;
  supervisor_.pids(request.id(), call.answer<Pids>([](const Pids& pids) {
    pb::PidsResponse response;
    for (const auto& entry : pids) {
      auto& process = *response.add_processes();
      process.set_pid(static_cast<uint32_t>(entry.pid));
      if (entry.exec_id.empty()) continue;
      containerd::runc::v1::ProcessDetails details;
      details.set_exec_id(entry.exec_id);
      process.mutable_info()->set_type_url(details.GetTypeName());
      process.mutable_info()->set_value(details.SerializeAsString());
    }
    return response;
  }));
}

void TaskService::pause(Call& call) {
  pb::TaskRequest request;
  if (call.decode(request)) supervisor_.pause(request.id(), call.answer_empty());
}

void TaskService::resume(Call& call) {
  pb::TaskRequest request;
  if (call.decode(request)) supervisor_.resume(request.id(), call.answer_empty());
}

void TaskService::checkpoint(Call& call) {
  pb::CheckpointTaskRequest request;
  if (!call.decode(request)) return;
  if (auto known = supervisor_.state(request.id(), {}); !known) {
    return call.answer_empty()(std::unexpected(std::move(known).error()));
  }
  std::vector<std::string> notes;
  auto options = parse_checkpoint_options(request.options(), request.path(), notes);
  for (const auto& note : notes) log_->info("{}: {}", request.id(), note);
  if (!options) return call.answer_empty()(std::unexpected(std::move(options).error()));
  supervisor_.checkpoint(request.id(), std::move(*options), call.answer_empty());
}

void TaskService::kill(Call& call) {
  pb::KillRequest request;
  if (!call.decode(request)) return;
  // Out of an int's range is out of the signals' range, too.
  const int signal = request.signal() > 1000 ? -1 : static_cast<int>(request.signal());
  supervisor_.kill(request.id(), request.exec_id(), signal, request.all() ? All::kYes : All::kNo,
                   call.answer_empty());
}

void TaskService::exec(Call& call) {
  pb::ExecProcessRequest request;
  if (!call.decode(request)) return;
  call.answer_empty()(supervisor_.add_exec(
      {request.id(),
       request.exec_id(),
       request.spec().value(),
       {request.stdin(), request.stdout(), request.stderr(), request.terminal()}}));
}

void TaskService::resize_pty(Call& call) {
  pb::ResizePtyRequest request;
  if (!call.decode(request)) return;
  call.answer_empty()(
      supervisor_.resize(request.id(), request.exec_id(), request.width(), request.height()));
}

void TaskService::close_io(Call& call) {
  pb::CloseIORequest request;
  if (!call.decode(request)) return;
  if (!request.stdin()) {  // nothing to close, but the process must exist
    auto known = supervisor_.state(request.id(), request.exec_id());
    Result<void> result;
    if (!known) result = std::unexpected(std::move(known).error());
    return call.answer_empty()(std::move(result));
  }
  call.answer_empty()(supervisor_.close_stdin(request.id(), request.exec_id()));
}

void TaskService::update(Call& call) {
  pb::UpdateTaskRequest request;
  if (!call.decode(request)) return;
  auto resources = oci::parse_resources(request.resources().value());
  if (!resources) return call.answer_empty()(std::unexpected(std::move(resources).error()));
  supervisor_.update(request.id(), std::move(*resources), call.answer_empty());
}

void TaskService::wait(Call& call) {
  pb::ProcessRequest request;
  if (!call.decode(request)) return;
  auto is_gone = [peer = call.responder.connection()] { return peer.expired(); };
  auto done = call.answer<Exit>([](const Exit& exit) {
    pb::WaitResponse response;
    response.set_exit_status(exit.status);
    set_time(*response.mutable_exited_at(), exit.at);
    return response;
  });
  supervisor_.wait(request.id(), request.exec_id(), {std::move(done), std::move(is_gone)});
}

void TaskService::stats(Call& call) {
  pb::TaskRequest request;
  if (!call.decode(request)) return;
  supervisor_.stats(request.id(), call.answer<cgroup::Stats>([](const cgroup::Stats& stats) {
    pb::StatsResponse response;
    encode_stats(stats, *response.mutable_stats());
    return response;
  }));
}

void TaskService::connect(Call& call) {
  pb::TaskRequest request;
  if (!call.decode(request)) return;
  pb::ConnectResponse response;
  response.set_shim_pid(static_cast<uint32_t>(::getpid()));
  response.set_task_pid(supervisor_.init_pid(request.id()));
  response.set_version(AMPHORA_VERSION);
  call.responder.ok(response);
}

void TaskService::shutdown(Call& call) {
  call.responder.ok(pb::Empty());
  shut_down_();
}

}  // namespace amphora::shim
