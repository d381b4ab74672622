// SPDX-License-Identifier: Apache-2.0

// Pods of wasm alone and of wasm beside native containers: everything kubelet does to them, ours alone.
// The guest is tests/guests/demo.c. Cases that want another daemon are in cases_restart.go.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/tools/remotecommand"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (p *Pod) Wasm(name string, changes ...change) *Container {
	return p.Run(name, p.t.image("wasm"), nil, append([]change{args("daemon")}, changes...)...)
}

// shimOf: the pid of the shim a container is served by, its init's parent.
func shimOf(t *T, c *Container) string {
	body, err := os.ReadFile("/proc/" + c.Pid() + "/status")
	t.Must(err, "status of init")
	_, after, _ := strings.Cut(string(body), "PPid:\t")
	return strings.SplitN(after, "\n", 2)[0]
}

// mixedPod: what the issue calls {wasm + native sidecar}, with a shared volume and a shared network.
func mixedPod(t *T) {
	dir := t.Volume(map[string]string{"index.html": "from the volume\n"})
	vol := mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol"})
	p := t.Pod()
	wasm := p.Wasm("wasm", vol)
	side := p.Sh("side", "exec busybox httpd -f -p 80 -h /vol", vol)
	wasm.LogHas(20, "tick 1")
	t.Equal(t.Get("http://"+p.IP()+"/"), "from the volume\n", "http probe")
	writer := p.Run("writer", t.image("wasm"), nil, args("write", "/vol/index.html", "by wasm"), vol)
	t.Equal(writer.Ended(20).ExitCode, 0, "a wasm container's exit code")
	t.Equal(t.Get("http://"+p.IP()+"/"), "by wasm\n", "the sidecar serves what wasm wrote")
	t.Equal(side.Exec("cat", "/vol/index.html"), "by wasm", "exec in the sidecar")
	t.Equal(shimOf(t, side), shimOf(t, wasm), "one shim for both")
	for _, ns := range []string{"net", "ipc", "uts"} {
		one, _ := os.Readlink("/proc/" + wasm.Pid() + "/ns/" + ns)
		two, _ := os.Readlink("/proc/" + side.Pid() + "/ns/" + ns)
		t.Equal(one, two, ns+" namespace")
	}
	wasm.Remove()
	t.Equal(side.State(), "RUNNING", "the sidecar")
	wasm = p.Wasm("wasm", vol, attempt(1))
	wasm.LogHas(20, "tick 1")
}

func init() {
	only("wasm", "a mixed pod", mixedPod).smoke = true
	only("wasm", "a pod of wasm alone", func(t *T) {
		p := t.Pod()
		for i := uint32(0); i < 3; i++ {
			p.Wasm("w", attempt(i)).LogHas(20, "tick 1")
		}
	}).smoke = true
	only("wasm", "output, code and log", func(t *T) {
		p := t.Pod()
		c := p.Run("c", t.image("wasm"), nil, args("echo", "to", "the", "log"))
		s := c.Ended(20)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "0Completed", "code and reason")
		t.Equal(c.Log("stdout")+c.Log("stderr"), "to the log\nexiting\n", "log")
		s = p.Run("d", t.image("wasm"), nil, args("exit", "42")).Ended(20)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "42Error", "code and reason")
		c = p.Run("e", t.image("wasm"), nil, args("trap"))
		t.Equal(c.Ended(20).ExitCode, 134, "code of a trap")
		c.LogHas(5, "unreachable")
	}).smoke = true
	only("wasm", "exec probes", func(t *T) {
		c := t.Pod().Wasm("c")
		out, _, code, err := c.Try("/app.wasm", "echo", "probed")
		t.Must(err, "exec of the module")
		t.Equal(out+fmt.Sprint(code), "probed\n0", "output and code")
		_, _, code, err = c.Try("/app.wasm", "exit", "3")
		t.Must(err, "exec of the module")
		t.Equal(code, 3, "a failing probe's code")
		mixed := t.Pod().Run("m", t.image("mixed"), []string{"/app.wasm", "daemon"})
		t.Equal(mixed.Exec("sh", "-c", "echo native"), "native", "a native probe in a wasm container")
		_, _, err = t.runtime.ExecSync(t.ctx, c.ID, []string{"/app.wasm", "sleep", "100"}, 2*time.Second)
		t.Refused(err, "a probe beyond its time")
	})
	only("wasm", "attach and stdin", func(t *T) {
		c := t.Pod().Run("c", t.image("wasm"), nil, args("cat"), withStdin(false), func(c *rt.ContainerConfig) { c.StdinOnce = true })
		s := c.Attach(true, false)
		s.Type("echoed\n")
		s.Has(20, "echoed")
		s.stdin.Close()
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		c.LogHas(5, "echoed")
	})
	only("wasm", "attach to a terminal", func(t *T) {
		c := t.Pod().Run("c", t.image("wasm"), nil, args("cat"), withStdin(true))
		s := c.Attach(true, true)
		s.sizes <- remotecommand.TerminalSize{Width: 80, Height: 25}
		s.Type("typed\n")
		s.Has(20, "typed\r\ntyped\r\n")
		s.Type("\x03")
		t.Equal(c.Ended(20).ExitCode, 130, "exit code after an interrupt")
	})
	only("wasm", "stream exec of a module", func(t *T) {
		s := t.Pod().Wasm("c").StreamExec(true, false, "/app.wasm", "cat")
		s.Type("through\n")
		s.Has(20, "through")
		s.stdin.Close()
		t.Equal(codeOf(s.Wait(20)), 0, "exit code")
	})
	only("wasm", "a ConfigMap and its update", func(t *T) {
		dir, publish := t.ConfigMap("settings", "one")
		p := t.Pod()
		vol := mount(&rt.Mount{HostPath: dir, ContainerPath: "/etc/config", Readonly: true})
		c := p.Wasm("c", vol)
		t.Equal(c.Exec("/app.wasm", "read", "/etc/config/settings"), "one", "first generation")
		publish("two")
		t.Equal(c.Exec("/app.wasm", "read", "/etc/config/settings"), "two", "second generation")
	})
	only("wasm", "limits and an in-place resize", func(t *T) {
		c := t.Pod().Wasm("c", resources(&rt.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 64 * mib}))
		c.LogHas(20, "tick 1")
		t.Equal(c.CgroupFile("memory", "memory.limit_in_bytes"), 64*mib, "memory")
		resized(t, c)
		c.LogHas(20, "tick 3")
	})
	only("wasm", "out of memory is the reason", func(t *T) {
		c := t.Pod().Run("c", t.image("wasm"), nil, args("hog"), resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 48 * mib}))
		s := c.Ended(60)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "137OOMKilled", "code and reason")
	})
	only("wasm", "stats", func(t *T) {
		numbers(t, t.Pod().Run("c", t.image("wasm"), nil, args("spin"), resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 64 * mib})))
	})
	only("wasm", "restricted as the strictest policy asks", func(t *T) {
		c := t.Pod().Wasm("c", security(func(s secure) {
			s.RunAsUser, s.RunAsGroup = &rt.Int64Value{Value: 1000}, &rt.Int64Value{Value: 1000}
			s.ReadonlyRootfs, s.NoNewPrivs = true, true
			s.Capabilities = &rt.Capability{DropCapabilities: []string{"ALL"}}
			s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_RuntimeDefault}
		}))
		c.LogHas(20, "tick 1")
		body, err := os.ReadFile("/proc/" + c.Pid() + "/status")
		t.Must(err, "status")
		for _, want := range []string{"Uid:\t1000\t1000\t1000\t1000", "Gid:\t1000\t1000\t1000\t1000", "Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"} {
			t.Contains(string(body), want, "status of init")
		}
		c.ExecFails("/app.wasm", "write", "/home/someone/new", "x")
		t.Contains(c.ExecFails("/app.wasm", "read", "/etc/secret"), "ermission", "a file of root's")
	})
	only("wasm", "in the pod's pid namespace", func(t *T) {
		p := t.Pod(sharedPids)
		w := p.Wasm("wasm")
		side := p.Sleeper()
		w.LogHas(20, "tick 1")
		t.Contains(side.Exec("ps"), "app.wasm", "processes that the sidecar sees")
		w.Stop(5)
		t.Equal(side.State(), "RUNNING", "the sidecar")
	})
	only("wasm", "a native sidecar restarts beside it", func(t *T) {
		p := t.Pod()
		w := p.Wasm("wasm")
		pid := w.Pid()
		for i := uint32(0); i < 3; i++ {
			side := p.Sh("side", "exit 1", attempt(i))
			t.Equal(side.Ended(20).ExitCode, 1, "the sidecar's code")
		}
		t.Equal(w.State()+w.Pid(), "RUNNING"+pid, "the wasm container")
		w.LogHas(20, "tick 2")
	})
	only("wasm", "a debug container is added", func(t *T) {
		p := t.Pod()
		w := p.Wasm("wasm")
		w.LogHas(20, "tick 1")
		debug := p.Run("debug", t.image("native"), []string{"sleep", "1000"}, security(func(s secure) {
			s.NamespaceOptions = &rt.NamespaceOption{Pid: rt.NamespaceMode_TARGET, TargetId: w.ID}
		}))
		t.Contains(debug.Exec("ps"), "app.wasm", "processes")
		t.Contains(debug.Exec("cat", "/proc/1/cmdline"), "app.wasm", "pid 1")
		debug.Stop(0)
		t.Equal(w.State(), "RUNNING", "the wasm container")
	})
	only("wasm", "asked to stop before it is killed", func(t *T) {
		p := t.Pod()
		w := p.Wasm("wasm")
		side := p.Sh("side", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done")
		w.LogHas(20, "tick 1")
		side.LogHas(20, "up")
		// As kubelet ends a pod: every container with its grace period, then the sandbox.
		begun := time.Now()
		w.Stop(30)
		t.Check(time.Since(begun) < 15*time.Second, "a wasm container took %s to end", time.Since(begun))
		t.Equal(w.Status().ExitCode, 143, "exit code of the wasm container")
		t.Equal(side.State(), "RUNNING", "the sidecar")
		side.Stop(30)
		t.Equal(side.Status().ExitCode, 0, "exit code of the sidecar")
		side.LogHas(5, "asked")
		t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop the pod")
	})
	only("wasm", "a missing module fails the start", func(t *T) {
		p := t.Pod()
		c := p.Create("c", t.image("wasm"), []string{"/no/such.wasm"})
		err := t.runtime.StartContainer(t.ctx, c.ID)
		t.Refused(err, "start")
		t.Contains(err.Error(), "/no/such.wasm", "the error")
		t.Equal(c.Status().Reason, "StartError", "reason")
	})
	only("wasm", "ten in one pod, one shim", func(t *T) {
		p := t.Pod()
		shims := map[string]bool{}
		for i := uint32(0); i < 5; i++ {
			shims[shimOf(t, p.Wasm("w", attempt(i)))] = true
			shims[shimOf(t, p.Sleeper(attempt(i)))] = true
		}
		t.Equal(len(shims), 1, "shims")
		for pid := range shims {
			n, err := strconv.Atoi(pid)
			t.Check(err == nil && n > 1, "the parent is %s", pid)
		}
	})
}
