// SPDX-License-Identifier: Apache-2.0
// What tests of the supervisor share: plain processes in the place of containers, recorded events, and the
// calls run to their ends.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "events.pb.h"
#include "executor/base/sys.h"
#include "shim/log.h"
#include "shim/supervisor.h"
#include "tests/unit/shim/support.h"

namespace amphora::shim::test {

namespace ev = containerd::events;

/// Events as words: "create", "start 123", "exit web 7", ...
class RecordedEvents final : public EventSink {
 public:
  void publish(const char* topic, const google::protobuf::MessageLite& event) override {
    std::string word = std::string(topic).substr(7);
    if (event.GetTypeName() == "containerd.events.TaskExit") {
      const auto& exit = static_cast<const ev::TaskExit&>(event);
      word += " " + exit.id() + " " + std::to_string(exit.exit_status());
    }
    words.push_back(std::move(word));
  }
  std::vector<std::string> words;
};

/// A child that waits for a byte, then does what it is told: "exit N", "sleep", or exits at once.
class FakeBackend final : public TaskBackend, public Backends {
 public:
  explicit FakeBackend(Children& children) : children_(children) {}

  Result<TaskBackend*> for_root(const std::string&) override { return this; }
  Result<Made> create(const std::string& id, const std::string&, const Stdio&,
                      const CreateOptions&) override {
    if (slow_create) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    if (fail_create) return fail(Errc::kInvalid, "create " + id + ": /nope: no such file");
    Made made;
    made.own_pid_namespace = true;
    made.created.kind = "native";
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    made.created.init = spawn([gate = ends[0], code = init_exit_code.load()] {
      char byte = 0;
      if (::read(gate, &byte, 1) != 1) ::_exit(1);
      if (code >= 0) ::_exit(code);
      ::pause();
    });
    ::close(ends[0]);
    const std::lock_guard lock(mutex_);
    gates_[id] = UniqueFd(ends[1]);
    return made;
  }
  Result<void> start(const std::string& id) override {
    {
      const std::lock_guard lock(mutex_);
      EXPECT_EQ(::write(gates_[id].get(), "x", 1), 1);
    }
    // Long enough for a short program to end before its start is known.
    if (slow_start) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return {};
  }
  Result<Made> restore(const std::string& id, const std::string& bundle, const Stdio& stdio,
                       const CreateOptions& options, const RestoreOptions& criu) override {
    if (fail_restore) return fail(Errc::kSystem, "restore " + id + ": criu says no");
    restored_from = criu.image_path;
    auto made = create(id, bundle, stdio, options);
    if (made) (void)start(id);
    return made;
  }
  Result<void> checkpoint(const std::string&, const CheckpointOptions& options) override {
    written_to = options.image_path + (options.leave_running ? " and runs on" : "");
    return {};
  }
  Result<Process> exec(const std::string&, const oci::Process& process, const Stdio&) override {
    if (process.args[0] == "missing") return fail(Errc::kSystem, "exec missing: no such file");
    const bool stays = process.args[0] == "sleep";
    return spawn([stays] {
      sys::close_range(3, ~0U, 0);  // what exec would close
      if (stays) ::pause();
      ::_exit(3);
    });
  }
  Result<void> kill_all(const std::string&, int) override {
    ++kill_alls;
    return {};
  }
  Result<std::vector<std::string>> remove(const std::string& id) override {
    const std::lock_guard lock(mutex_);
    gates_.erase(id);
    if (fail_remove) return fail(Errc::kSystem, "cgroup is busy");
    return std::vector<std::string>();
  }
  Result<void> pause(const std::string&) override { return {}; }
  Result<void> resume(const std::string&) override {
    ++resumes;
    return {};
  }
  Result<void> update(const std::string&, const oci::Resources&) override { return {}; }
  Result<void> record_exit(const std::string&, int code) override {
    recorded = code;
    return {};
  }

  std::atomic<bool> slow_create = false, fail_create = false, slow_start = false,
                    fail_remove = false, fail_restore = false;
  std::string restored_from, written_to;  // set by workers before their answer is read
  std::atomic<int> init_exit_code = -1, kill_alls = 0, resumes = 0, recorded = -1;

 private:
  Process spawn(const std::function<void()>& body) {
    const std::lock_guard lock(children_.mutex());
    Process process;
    process.pid = ::fork();
    if (process.pid == 0) {
      // A worker's signals are blocked; like the real child, this one takes its own.
      sigset_t none;
      ::sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      body();
      ::_exit(0);
    }
    children_.add_locked(process.pid);
    process.pidfd.reset(sys::pidfd_open(process.pid, 0));
    return process;
  }
  Children& children_;
  std::mutex mutex_;
  std::map<std::string, UniqueFd> gates_;
};

class SupervisorTest : public testing::Test {
 protected:
  SupervisorTest()
      : supervisor_({loop_, workers_, reaper_, children_, backend_, events_,
                     make_logger({}, "", true), "default"}) {}
  ~SupervisorTest() override {
    backend_.fail_remove = false;
    for (const auto& id : made_) {
      (void)kill(id, SIGKILL);
      run_until(loop_, [&] { return !alive(id); });
    }
  }

  bool alive(const std::string& id) {
    const auto report = supervisor_.state(id, "");
    return report && report->process->is_alive();
  }
  /// Runs an asynchronous call to its end: the value, or "code: text" in `error_`.
  template <class T, class Call>
  std::optional<T> get(Call call) {
    std::optional<Result<T>> result;
    call(Done<T>([&result](Result<T> got) { result.emplace(std::move(got)); }));
    EXPECT_TRUE(run_until(loop_, [&] { return result.has_value(); }));
    error_ = !result ? "no answer" : *result ? "" : result->error().what();
    errc_ = result && !*result ? result->error().code() : Errc::kInternal;
    if (!result || !*result) return std::nullopt;
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return std::move(**result);
    }
  }
  bool run_void(const std::function<void(Done<void>)>& call) {
    std::optional<Result<void>> result;
    call([&result](Result<void> got) { result.emplace(std::move(got)); });
    EXPECT_TRUE(run_until(loop_, [&] { return result.has_value(); }));
    error_ = !result ? "no answer" : *result ? "" : result->error().what();
    errc_ = result && !*result ? result->error().code() : Errc::kInternal;
    return result && result->has_value();
  }
  std::optional<uint32_t> create(const std::string& id) {
    made_.push_back(id);
    CreateRequest request;
    request.id = id;
    request.bundle = dir_.path();
    return get<uint32_t>(
        [&](Done<uint32_t> done) { supervisor_.create(std::move(request), std::move(done)); });
  }
  std::optional<uint32_t> start(const std::string& id, const std::string& exec = "") {
    return get<uint32_t>(
        [&](Done<uint32_t> done) { supervisor_.start(id, exec, std::move(done)); });
  }
  bool kill(const std::string& id, int signal, const std::string& exec = "") {
    return run_void(
        [&](Done<void> done) { supervisor_.kill(id, exec, signal, All::kNo, std::move(done)); });
  }
  std::optional<Exit> wait(const std::string& id, const std::string& exec = "") {
    return get<Exit>([&](Done<Exit> done) {
      supervisor_.wait(id, exec, {std::move(done), [] { return false; }});
    });
  }
  std::optional<Supervisor::Deleted> remove(const std::string& id, const std::string& exec = "") {
    return get<Supervisor::Deleted>(
        [&](Done<Supervisor::Deleted> done) { supervisor_.remove(id, exec, std::move(done)); });
  }
  Result<void> add_exec(const std::string& exec_id, const std::string& program) {
    return supervisor_.add_exec(
        {"web",
         exec_id,
         R"({"cwd":"/","args":[")" + program + R"("],"user":{"uid":0,"gid":0}})",
         {}});
  }

  ScratchDir dir_;
  Loop loop_{1};
  Children children_;
  FakeBackend backend_{children_};
  RecordedEvents events_;
  Workers workers_{loop_};
  Reaper reaper_{loop_, children_};
  Supervisor supervisor_;
  std::vector<std::string> made_;
  std::string error_;
  Errc errc_{};
};

}  // namespace amphora::shim::test
