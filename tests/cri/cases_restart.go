// SPDX-License-Identifier: Apache-2.0

// Cases that have the daemon for themselves: it dies and comes back, runs with ours as its default
// runtime, with the configurations and pods that deploy/ gives, or lets the shim own the sandbox.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

func init() {
	both("restart", "containers outlive containerd", func(t *T) { outlives(t, nil) }).alone = true
	only("restart", "a mixed pod outlives containerd", func(t *T) {
		outlives(t, func(p *Pod) *Container { return p.Wasm("wasm") })
	}).alone = true
	both("restart", "an exit while containerd is down is told", func(t *T) {
		p := t.Pod()
		c := p.Sh("c", "echo up; sleep 2; echo last words; exit 9")
		c.LogHas(20, "up")
		t.daemon.kill()
		time.Sleep(3 * time.Second)
		t.Must(t.environment.restart(t.config("runc")), "restart")
		t.Equal(c.Ended(20).ExitCode, 9, "exit code")
		c.LogHas(10, "last words")
	}).alone = true
	only("restart", "ours as the default runtime", func(t *T) {
		t.Must(t.environment.restart(t.config("amphora")), "restart")
		defer func() { t.Must(t.environment.restart(t.config("runc")), "restart") }()
		before := len(shimPids("containerd-shim-runc-v2"))
		mixedPod(t)
		t.Equal(len(shimPids("containerd-shim-runc-v2")), before, "runc's shims")
		for i := len(t.cleanups) - 1; i >= 0; i-- {
			t.cleanups[i]()
		}
		t.cleanups = nil
	}, byDefault).alone = true
	only("deploy", "the drop-in configuration", dropIn).alone = true
	only("deploy", "the sample pod", samplePod)
	only("sandboxer", "the shim owns the sandbox", func(t *T) {
		t.NeedsV2("has no sandboxer")
		mixedPod(t)
	}, byShim)
	only("sandboxer", "life of such a pod", func(t *T) {
		t.NeedsV2("has no sandboxer")
		sandboxLife(t)
	}, byShim)
	only("sandboxer", "such a pod outlives containerd", func(t *T) {
		t.NeedsV2("has no sandboxer")
		outlives(t, nil)
	}, byShim).alone = true
	only("sandboxer", "such a pod may share its pids", func(t *T) {
		t.NeedsV2("has no sandboxer")
		p := t.Pod(sharedPids)
		one := p.Run("one", t.image("native"), []string{"sleep", "1111"})
		two := p.Run("two", t.image("native"), []string{"sleep", "2222"})
		t.Contains(two.Exec("ps"), "sleep 1111", "processes")
		one.Stop(0)
		t.Equal(two.State(), "RUNNING", "the other")
	}, byShim)
	only("sandboxer", "names, memory and sysctls of such a pod", func(t *T) {
		t.NeedsV2("has no sandboxer")
		p := t.Pod(func(c *rt.PodSandboxConfig) {
			c.DnsConfig = &rt.DNSConfig{Servers: []string{"10.9.8.7"}, Searches: []string{"a.test"}}
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "81"}
		})
		one, two := p.Sleeper(), p.Sleeper(attempt(1))
		t.Equal(one.Exec("hostname")+" "+one.Exec("cat", "/etc/hostname"), "pod-host pod-host", "host name")
		t.Equal(one.Exec("cat", "/etc/resolv.conf"), "search a.test\nnameserver 10.9.8.7", "resolv.conf")
		t.Equal(one.Exec("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), "81", "sysctl")
		one.ExecSh("echo told > /dev/shm/f")
		t.Equal(two.Exec("cat", "/dev/shm/f"), "told", "shared memory")
		s, err := t.runtime.PodSandboxStatus(t.ctx, p.ID, true)
		t.Must(err, "status of the pod")
		_, pid, _ := strings.Cut(s.Info["info"], `"pid":`)
		program, err := os.Stat("/proc/" + pid[:strings.IndexAny(pid, ",}")] + "/exe")
		t.Must(err, "the program that holds the namespaces")
		t.Check(program.Size() < 4096, "it is the shim's own and no image's: %d bytes", program.Size())
	}, byShim)
	only("sandboxer", "users of such a pod", func(t *T) {
		t.NeedsV2("has no sandboxer")
		p := usersPod(t)
		c, wasm := p.Sleeper(), p.Wasm("wasm")
		t.Equal(strings.Fields(c.Exec("cat", "/proc/self/uid_map"))[1], mappedTo, "uid map")
		t.Equal(c.Exec("stat", "-c", "%u", "/etc/resolv.conf"), "0", "owner of a file of the pod's")
		wasm.LogHas(20, "tick 1")
		one, _ := os.Readlink("/proc/" + wasm.Pid() + "/ns/user")
		two, _ := os.Readlink("/proc/" + c.Pid() + "/ns/user")
		t.Equal(one, two, "one user namespace for both")
	}, byShim)
	only("sandboxer", "numbers of such a pod", func(t *T) {
		t.NeedsV2("has no sandboxer")
		p := t.Pod()
		numbers(t, p.Sh("c", "i=0; while :; do i=$((i+1)); done"))
	}, byShim)
}

// outlives: pod and containers go on while containerd is away, and are its again when it is back.
func outlives(t *T, more func(*Pod) *Container) {
	p := t.Pod()
	c := p.Sh("c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done")
	all := []*Container{c}
	if more != nil {
		all = append(all, more(p))
	}
	c.LogHas(20, "line 3")
	var pids []string
	for _, one := range all {
		pids = append(pids, one.Pid())
	}
	t.daemon.kill()
	time.Sleep(time.Second)
	t.Must(t.environment.restart(t.config("runc")), "restart")
	for i, one := range all {
		t.Equal(one.State()+" "+one.Pid(), "RUNNING "+pids[i], "container after the restart")
	}
	t.Equal(c.Exec("echo", "alive"), "alive", "exec after the restart")
	seen := len(c.LogLines())
	t.Eventually(20, "new lines in the log", func() (bool, string) { return len(c.LogLines()) > seen+3, fmt.Sprint(seen) })
	t.Equal(p.Status().State, rt.PodSandboxState_SANDBOX_READY, "pod after the restart")
	// Nothing was lost in between: the numbers have no hole.
	text := c.Log("stdout")
	for i := 0; i < seen; i++ {
		t.Contains(text, fmt.Sprintf("line %d\n", i), "log")
	}
	for _, one := range all {
		one.Stop(0)
		t.Equal(one.Status().ExitCode, 137, "exit code")
	}
}

// dropIn: the file of deploy/ as an import. What containerd makes of it is in CRI's status.
func dropIn(t *T) {
	defer func() { t.Must(t.environment.restart(t.config("runc")), "restart") }()
	t.Must(t.environment.restart(fmt.Sprintf("version = %s\nimports = [%q]\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n",
		map[bool]string{true: "3", false: "2"}[t.major >= 2], t.dropInFile(), t.lab+"/containerd", state+"/s", socket)), "restart with the drop-in")
	s, err := t.runtime.Status(t.ctx, true)
	t.Must(err, "status")
	for _, part := range []string{`"io.containerd.amphora.v1"`, `"io.containerd.runc.v2"`, `"amphora.dev/*"`} {
		t.Contains(s.Info["config"], part, "the configuration that runs")
	}
}

// samplePod: the pod of deploy/ as kubelet would translate it for CRI.
func samplePod(t *T) {
	body, err := os.ReadFile(t.lab + "/deploy/kubernetes/runtimeclass.yaml")
	t.Must(err, "the class")
	var class nodev1.RuntimeClass
	t.Must(yaml.UnmarshalStrict(body, &class), "the class")
	body, err = os.ReadFile(t.lab + "/deploy/kubernetes/mixed-pod.yaml")
	t.Must(err, "the pod")
	var sample corev1.Pod
	t.Must(yaml.UnmarshalStrict(body, &sample), "the pod")
	t.Equal(*sample.Spec.RuntimeClassName, class.Name, "the pod's class")
	t.Equal(class.Handler, t.Handler, "the class' handler")
	dir := t.Volume(nil)
	p := t.Pod()
	for _, c := range sample.Spec.Containers {
		words := append([]string{}, c.Command...)
		image := strings.TrimSuffix(strings.TrimPrefix(c.Image, "example.org/"), ":1")
		made := p.Run(c.Name, t.image(image), words, args(c.Args...), mount(&rt.Mount{HostPath: dir, ContainerPath: c.VolumeMounts[0].MountPath}),
			resources(&rt.LinuxContainerResources{MemoryLimitInBytes: c.Resources.Limits.Memory().Value(), CpuPeriod: 100000,
				CpuQuota: c.Resources.Limits.Cpu().MilliValue() * 100}),
			security(func(s secure) {
				own, common := c.SecurityContext, sample.Spec.SecurityContext
				s.RunAsUser, s.RunAsGroup = &rt.Int64Value{Value: *common.RunAsUser}, &rt.Int64Value{Value: *common.RunAsGroup}
				s.SupplementalGroups = []int64{*common.FSGroup}
				s.NoNewPrivs, s.ReadonlyRootfs = !*own.AllowPrivilegeEscalation, *own.ReadOnlyRootFilesystem
				s.Capabilities = &rt.Capability{DropCapabilities: []string{string(own.Capabilities.Drop[0])}}
				s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_RuntimeDefault}
			}))
		if c.Name == "writer" {
			t.Equal(made.Ended(20).ExitCode, 0, "the writer's exit code: "+made.Log(""))
		}
	}
	t.Equal(t.Get("http://"+p.IP()+":8080/"), "written by wasm\n", "the page")
}
