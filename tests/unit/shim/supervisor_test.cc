// SPDX-License-Identifier: Apache-2.0
// The life of tasks with plain processes in the place of containers: order of events, codes, and that
// nobody waits for somebody else.
#include "shim/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "events.pb.h"
#include "executor/base/sys.h"
#include "shim/log.h"
#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

namespace ev = containerd::events;
using test::run_until;
using testing::ElementsAre;
using testing::HasSubstr;

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
                    fail_remove = false;
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

  test::ScratchDir dir_;
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

TEST_F(SupervisorTest, AWholeLife) {
  const auto pid = create("web");
  ASSERT_TRUE(pid) << error_;
  EXPECT_EQ(::kill(static_cast<pid_t>(*pid), 0), 0);
  EXPECT_EQ(start("web"), pid);
  EXPECT_TRUE(kill("web", SIGTERM)) << error_;
  const auto exit = wait("web");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status, 143U);
  EXPECT_EQ(wait("web")->at.nanos, exit->at.nanos) << "a later Wait gives the same answer";
  const auto deleted = remove("web");
  ASSERT_TRUE(deleted) << error_;
  EXPECT_EQ(deleted->pid, *pid);
  EXPECT_EQ(deleted->exit.status, 143U);
  EXPECT_THAT(events_.words, ElementsAre("create", "start", "exit web 143", "delete"));
  EXPECT_TRUE(supervisor_.is_empty());
  EXPECT_EQ(backend_.recorded, 143);
}

TEST_F(SupervisorTest, AShortProgramsExitNeverPrecedesItsStart) {
  backend_.slow_start = true;
  backend_.init_exit_code = 7;
  for (int i = 0; i < 20; ++i) {
    events_.words.clear();
    ASSERT_TRUE(create("web")) << error_;
    ASSERT_TRUE(start("web")) << error_;
    EXPECT_EQ(wait("web")->status, 7U);
    ASSERT_TRUE(remove("web")) << error_;
    ASSERT_THAT(events_.words, ElementsAre("create", "start", "exit web 7", "delete"));
  }
}

TEST_F(SupervisorTest, UnknownIsNotFoundForEverything) {
  EXPECT_FALSE(start("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(error_, "container nope does not exist");
  EXPECT_FALSE(kill("nope", SIGTERM));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_FALSE(wait("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_FALSE(remove("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(supervisor_.init_pid("nope"), 0U);
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(start("web", "no-exec"));
  EXPECT_EQ(error_, "exec no-exec does not exist in container web");
}

TEST_F(SupervisorTest, CreateTwiceAndBadIds) {
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(create("web"));
  EXPECT_EQ(errc_, Errc::kExists);
  EXPECT_FALSE(create("../etc"));
  EXPECT_EQ(errc_, Errc::kInvalid);
}

TEST_F(SupervisorTest, AFailedCreateLeavesNothingAndSaysWhy) {
  backend_.fail_create = true;
  EXPECT_FALSE(create("web"));
  EXPECT_EQ(error_, "create web: /nope: no such file");
  EXPECT_TRUE(supervisor_.is_empty());
  EXPECT_TRUE(events_.words.empty());
  backend_.fail_create = false;
  EXPECT_TRUE(create("web")) << error_;
}

TEST_F(SupervisorTest, ARunningContainerIsNotDeletedAndAFinishedOneNotKilled) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  EXPECT_FALSE(remove("web"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  EXPECT_EQ(error_, "cannot delete container web: it is running");
  EXPECT_FALSE(start("web"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  EXPECT_FALSE(kill("web", 65));
  EXPECT_EQ(errc_, Errc::kInvalid);
  ASSERT_TRUE(kill("web", SIGKILL));
  EXPECT_EQ(wait("web")->status, 137U);
  EXPECT_FALSE(kill("web", SIGKILL));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(error_, "process already finished");
  EXPECT_TRUE(remove("web"));
  EXPECT_FALSE(remove("web"));
  EXPECT_EQ(errc_, Errc::kNotFound);
}

TEST_F(SupervisorTest, ACreatedContainerCanBeDeleted) {
  ASSERT_TRUE(create("web"));
  const auto deleted = remove("web");
  ASSERT_TRUE(deleted) << error_;
  EXPECT_EQ(deleted->exit.status, 137U);
  EXPECT_THAT(events_.words, ElementsAre("create", "exit web 137", "delete"));
}

TEST_F(SupervisorTest, AFailedDeleteCanBeTriedAgain) {
  ASSERT_TRUE(create("web"));
  backend_.fail_remove = true;
  EXPECT_FALSE(remove("web"));
  EXPECT_THAT(error_, HasSubstr("cgroup is busy"));
  backend_.fail_remove = false;
  EXPECT_TRUE(remove("web")) << error_;
}

TEST_F(SupervisorTest, ASlowCreateDelaysNobodyElseAndIsInvisible) {
  ASSERT_TRUE(create("web"));
  backend_.slow_create = true;
  bool created = false;
  CreateRequest request;
  request.id = "slow";
  request.bundle = dir_.path();
  made_.push_back("slow");
  supervisor_.create(std::move(request), [&](Result<uint32_t> pid) { created = pid.has_value(); });
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_FALSE(supervisor_.state("slow", "").has_value());
  EXPECT_TRUE(supervisor_.state("web", "").has_value());
  EXPECT_TRUE(start("web"));
  ASSERT_TRUE(add_exec("e1", "true").has_value());
  EXPECT_TRUE(start("web", "e1"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(400));
  EXPECT_FALSE(created);
  // Delete during Create waits for it and takes away what it made.
  EXPECT_TRUE(remove("slow")) << error_;
  EXPECT_TRUE(created);
  EXPECT_FALSE(supervisor_.state("slow", "").has_value());
}

TEST_F(SupervisorTest, ExecsHaveTheirOwnLife) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(add_exec("e1", "true").has_value());
  EXPECT_EQ(add_exec("e1", "true").error().code(), Errc::kExists);
  EXPECT_FALSE(kill("web", SIGTERM, "e1"));
  EXPECT_EQ(error_, "exec e1 has not been started");
  ASSERT_TRUE(start("web", "e1"));
  EXPECT_EQ(wait("web", "e1")->status, 3U);
  EXPECT_FALSE(kill("web", SIGTERM, "e1"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(remove("web", "e1")->exit.status, 3U);
  ASSERT_TRUE(add_exec("e2", "missing").has_value());
  EXPECT_FALSE(start("web", "e2"));
  EXPECT_EQ(error_, "exec missing: no such file");
  EXPECT_TRUE(remove("web", "e2")) << "an exec that failed to start can be deleted: " << error_;
  EXPECT_TRUE(alive("web"));
  EXPECT_THAT(events_.words, ElementsAre("create", "start", "exec-added", "exec-started",
                                         "exit e1 3", "exec-added"));
}

TEST_F(SupervisorTest, ExitsOfExecsPrecedeInitsAndNothingStartsAfterwards) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  std::vector<uint32_t> pids;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(add_exec("e" + std::to_string(i), "sleep").has_value());
    pids.push_back(start("web", "e" + std::to_string(i)).value_or(0));
  }
  ASSERT_TRUE(add_exec("late", "true").has_value());
  ASSERT_TRUE(kill("web", SIGKILL));
  int number = 0;
  std::string refusal;
  ASSERT_TRUE(run_until(loop_, [&] {
    const auto added = add_exec("more" + std::to_string(++number), "true");
    if (!added) refusal = added.error().what();
    return !added.has_value();
  }));
  EXPECT_EQ(refusal, "container web has ended");
  EXPECT_FALSE(start("web", "late"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  // What the end of a pid namespace does.
  for (const uint32_t pid : pids) ::kill(static_cast<pid_t>(pid), SIGKILL);
  EXPECT_EQ(wait("web")->status, 137U);
  EXPECT_EQ(
      std::ranges::count_if(events_.words, [](const auto& w) { return w.starts_with("exit e"); }),
      20);
  EXPECT_EQ(events_.words.back(), "exit web 137");
}

TEST_F(SupervisorTest, CloseIoBeforeAnExecsStartIsRemembered) {
  const std::string fifo = dir_ / "in";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0700), 0);
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(supervisor_
                  .add_exec({"web",
                             "e1",
                             R"({"cwd":"/","args":["sleep"],"user":{"uid":0,"gid":0}})",
                             {fifo, "", "", false}})
                  .has_value());
  EXPECT_TRUE(supervisor_.close_stdin("web", "e1").has_value());
  ASSERT_TRUE(start("web", "e1")) << error_;
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  char byte = 0;
  EXPECT_TRUE(run_until(loop_, [&] { return ::read(reader.get(), &byte, 1) == 0; }))
      << "somebody still holds the write end";
  EXPECT_TRUE(kill("web", SIGKILL, "e1"));
}

TEST_F(SupervisorTest, PauseAndResume) {
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(error_, "cannot pause container web: it is created");
  ASSERT_TRUE(start("web"));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(add_exec("e", "true").error().code(), Errc::kPrecondition);
  EXPECT_FALSE(remove("web"));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.resume("web", std::move(done)); }));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(backend_.resumes, 1);
  EXPECT_TRUE(kill("web", SIGKILL)) << "a frozen container must be thawed to die";
  EXPECT_EQ(backend_.resumes, 2);
  EXPECT_EQ(wait("web")->status, 137U);
}

TEST_F(SupervisorTest, AThousandWaitsNeedNoThreads) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(run_until(loop_, [&] { return workers_.threads() == 0; }));
  int answered = 0;
  for (int i = 0; i < 1000; ++i) {
    supervisor_.wait("web", "",
                     {[&](Result<Exit> exit) { answered += exit->status == 137 ? 1 : 0; },
                      [] { return false; }});
  }
  loop_.restart();
  loop_.poll();
  EXPECT_EQ(workers_.threads(), 0U);
  ASSERT_TRUE(kill("web", SIGKILL));
  EXPECT_TRUE(run_until(loop_, [&] { return answered == 1000; })) << answered;
}

TEST_F(SupervisorTest, WaitersWhoseClientsLeftAreClearedAway) {
  ASSERT_TRUE(create("web"));
  for (int i = 0; i < 100; ++i) {
    supervisor_.wait("web", "", {[](Result<Exit>) {}, [] { return true; }});
  }
  EXPECT_EQ(supervisor_.state("web", "")->process->waiters.size(), 1U);
}

TEST_F(SupervisorTest, KillAllGoesThroughTheRuntime) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  EXPECT_TRUE(run_void(
      [&](Done<void> done) { supervisor_.kill("web", "", SIGTERM, All::kYes, std::move(done)); }));
  EXPECT_EQ(backend_.kill_alls, 1);
}

TEST_F(SupervisorTest, PidsIsNeverEmpty) {
  const auto pid = create("web");
  const auto list = [&] {
    return get<std::vector<Supervisor::Pid>>(
        [&](auto done) { supervisor_.pids("web", std::move(done)); });
  };
  ASSERT_EQ(list()->size(), 1U);
  EXPECT_EQ(list()->front().pid, static_cast<pid_t>(*pid));
}

}  // namespace
}  // namespace amphora::shim
