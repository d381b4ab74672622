// SPDX-License-Identifier: Apache-2.0

// Pods and containers from birth to removal: states, codes, reasons, lists, and that every ending call
// may come twice. Not here: streams, security, limits.
package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func init() {
	both("runtime", "version and conditions", func(t *T) {
		v, err := t.runtime.Version(t.ctx, "v1")
		t.Must(err, "version")
		t.Equal(v.RuntimeName, "containerd", "runtime name")
		s, err := t.runtime.Status(t.ctx, false)
		t.Must(err, "status")
		for _, c := range s.Status.Conditions {
			if c.Type == rt.RuntimeReady || c.Type == rt.NetworkReady {
				t.Check(c.Status, "%s is false: %s", c.Type, c.Message)
			}
		}
	})
	both("runtime", "features of the handler are told", func(t *T) {
		t.NeedsV2("tells no features")
		t.NeedsFeature("user namespaces", (*rt.RuntimeHandlerFeatures).GetUserNamespaces)
		t.NeedsFeature("recursive read-only mounts", (*rt.RuntimeHandlerFeatures).GetRecursiveReadOnlyMounts)
	})
	both("sandbox", "run, list, stop and remove", sandboxLife)
	both("sandbox", "stop and remove may come twice", func(t *T) {
		p := t.Pod()
		for i := 0; i < 2; i++ {
			t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop")
		}
		for i := 0; i < 2; i++ {
			t.Must(t.runtime.RemovePodSandbox(t.ctx, p.ID), "remove")
		}
	})
	both("sandbox", "remove ends what runs in it", func(t *T) {
		p := t.Pod()
		c := p.Sleeper()
		t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop")
		t.Equal(c.State(), "EXITED", "the container")
		t.Must(t.runtime.RemovePodSandbox(t.ctx, p.ID), "remove")
		_, err := t.runtime.ContainerStatus(t.ctx, c.ID, false)
		t.Refused(err, "status of a container of a removed pod")
	})
	both("sandbox", "its containers end in the order they are asked", func(t *T) {
		// As kubelet ends a pod: the programs, then the sidecars in the reverse of their order, then the sandbox.
		p := t.Pod()
		var all []*Container
		for _, name := range []string{"sidecar-1", "sidecar-2", "program"} {
			c := p.Sh(name, "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done")
			c.LogHas(20, "up")
			all = append(all, c)
		}
		var last int64
		for i := len(all) - 1; i >= 0; i-- {
			all[i].Stop(20)
			s := all[i].Status()
			t.Equal(s.ExitCode, 0, "exit code of "+all[i].Config.Metadata.Name)
			t.Check(s.FinishedAt > last, "%s ended at %d, the one before it at %d", all[i].Config.Metadata.Name, s.FinishedAt, last)
			last = s.FinishedAt
			all[i].LogHas(5, "asked")
			for _, other := range all[:i] {
				t.Equal(other.State(), "RUNNING", "one that was not asked")
			}
		}
		t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop the pod")
	})
	both("sandbox", "hostname and dns", func(t *T) {
		p := t.Pod(func(c *rt.PodSandboxConfig) {
			c.DnsConfig = &rt.DNSConfig{Servers: []string{"10.9.8.7"}, Searches: []string{"a.test"}, Options: []string{"ndots:8"}}
		})
		c := p.Sleeper()
		t.Equal(c.Exec("hostname"), "pod-host", "hostname")
		for _, line := range []string{"nameserver 10.9.8.7", "search a.test", "options ndots:8"} {
			t.Contains(c.Exec("cat", "/etc/resolv.conf"), line, "resolv.conf")
		}
	})
	both("sandbox", "sysctls", func(t *T) {
		p := t.Pod(func(c *rt.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "81", "kernel.shm_rmid_forced": "1"}
		})
		c := p.Sleeper()
		t.Equal(c.Exec("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), "81", "the network's")
		t.Equal(c.Exec("cat", "/proc/sys/kernel/shm_rmid_forced"), "1", "the ipc namespace's")
	})
	both("container", "created, running, exited, removed", containerLife)
	both("container", "ends with its code and reason", func(t *T) {
		p := t.Pod()
		s := p.Sh("good", "exit 0").Ended(20)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "0Completed", "code and reason")
		s = p.Sh("bad", "exit 7").Ended(20)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "7Error", "code and reason")
		s = p.Sh("killed", "kill -9 $$").Ended(20)
		t.Equal(s.ExitCode, 0, "init of a pid namespace cannot kill itself")
	})
	both("container", "stop sends TERM and waits", func(t *T) {
		c := t.Pod().Sh("c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
		c.LogHas(20, "up")
		c.Stop(20)
		t.Equal(c.Status().ExitCode, 3, "exit code")
		c.LogHas(5, "bye")
	})
	both("container", "stop kills after the timeout", func(t *T) {
		c := t.Pod().Sh("c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
		c.LogHas(20, "up")
		begun := time.Now()
		c.Stop(2)
		t.Equal(c.Status().ExitCode, 137, "exit code")
		took := time.Since(begun)
		t.Check(took > 1500*time.Millisecond && took < 30*time.Second, "it took %s", took)
	})
	both("container", "stop and remove may come twice", func(t *T) {
		c := t.Pod().Sleeper()
		c.Stop(5)
		c.Stop(5)
		c.Remove()
		c.Remove()
	})
	both("container", "stop of one that is gone", func(t *T) {
		c := t.Pod().Sleeper()
		c.Stop(5)
		c.Remove()
		err := t.runtime.StopContainer(t.ctx, c.ID, 1)
		if t.major < 2 && status.Code(err) == codes.NotFound {
			return // 1.6 and 1.7 say so, and kubelet takes it for good
		}
		t.Must(err, "stop of a removed container")
	})
	both("container", "stop of one that never ran", func(t *T) {
		c := t.Pod().Create("never", t.image("native"), []string{"true"})
		t.Equal(c.State(), "CREATED", "state")
		c.Stop(1)
		c.Remove()
	})
	both("container", "remove of a running one kills it", func(t *T) {
		c := t.Pod().Sleeper()
		c.Remove()
		_, err := t.runtime.ContainerStatus(t.ctx, c.ID, false)
		t.Refused(err, "status of a removed container")
	})
	both("container", "a missing program fails the start", func(t *T) {
		p := t.Pod()
		c := p.Create("c", t.image("native"), []string{"/no/such/program"})
		err := t.runtime.StartContainer(t.ctx, c.ID)
		t.Refused(err, "start of a missing program")
		t.Contains(err.Error(), "/no/such/program", "the error")
		s := c.Status()
		t.Equal(fmt.Sprint(s.State, " ", s.ExitCode, s.Reason), "CONTAINER_EXITED 128StartError", "state, code and reason")
		t.Contains(s.Message, "/no/such/program", "the status' message")
		c.Remove()
		p.Sleeper() // the pod is as good as before
	})
	both("container", "three of a pod, ended one by one", func(t *T) {
		p := t.Pod()
		var all []*Container
		for _, name := range []string{"one", "two", "three"} {
			all = append(all, p.Sleeper(func(c *rt.ContainerConfig) { c.Metadata.Name = name }))
		}
		for i, c := range all {
			c.Stop(10)
			t.Equal(c.State(), "EXITED", "the one that was stopped")
			for _, other := range all[i+1:] {
				t.Equal(other.State(), "RUNNING", "another")
				t.Equal(other.Exec("echo", "alive"), "alive", "another")
			}
		}
	})
	both("container", "restarted as a second attempt", func(t *T) {
		p := t.Pod()
		first := p.Sh("again", "exit 1")
		t.Equal(first.Ended(20).ExitCode, 1, "first")
		second := p.Sh("again", "exit 2", attempt(1))
		t.Equal(second.Ended(20).ExitCode, 2, "second")
		t.Equal(first.Status().ExitCode, 1, "first, still known")
	})
	both("container", "command, arguments, environment, directory", func(t *T) {
		p := t.Pod()
		c := p.Run("c", t.image("native"), []string{"sh", "-c"}, args("echo $WORD; pwd; echo $PATH"), withEnv("WORD", "a b"),
			func(c *rt.ContainerConfig) { c.WorkingDir = "/var/run" })
		c.Ended(20)
		lines := strings.Split(c.Log("stdout"), "\n")
		t.Equal(lines[0]+" "+lines[1], "a b /var/run", "output")
		t.Contains(lines[2], "/usr/local/bin", "the image's PATH")
		c = p.Run("new-dir", t.image("native"), []string{"pwd"}, func(c *rt.ContainerConfig) { c.WorkingDir = "/not/there/before" })
		c.Ended(20)
		t.Equal(c.Log("stdout"), "/not/there/before\n", "a directory that did not exist")
	})
	both("container", "the image's own command", func(t *T) {
		c := t.Pod().Run("c", t.image("words"), nil)
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Equal(c.Log("stdout"), "from the image\n", "output")
		c = t.Pod().Run("c", t.image("words"), nil, args("from the pod"))
		c.Ended(20)
		t.Equal(c.Log("stdout"), "from the pod\n", "output with other arguments")
	})
	both("container", "events are told", func(t *T) {
		t.Needs(1, 7, "has no such call")
		// Everything that happened before is told, too, and containerd makes no pod while nobody listens.
		events := make(chan *rt.ContainerEventResponse)
		go t.runtime.GetContainerEvents(t.ctx, events, nil)
		var lock sync.Mutex
		told := map[string][]string{}
		go func() {
			for {
				select {
				case e := <-events:
					lock.Lock()
					told[e.ContainerId] = append(told[e.ContainerId],
						strings.TrimSuffix(strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
					lock.Unlock()
				case <-t.ctx.Done():
					return
				}
			}
		}()
		time.Sleep(300 * time.Millisecond)
		c := t.Pod().Sh("c", "exit 3")
		c.Ended(20)
		c.Remove()
		t.Eventually(20, "created, started, stopped, deleted", func() (bool, string) {
			lock.Lock()
			defer lock.Unlock()
			words := strings.Join(told[c.ID], " ")
			return words == "CREATED STARTED STOPPED DELETED", words
		})
	}).alone = true
}

func sandboxLife(t *T) {
	p := t.Pod()
	s := p.Status()
	t.Equal(s.State, rt.PodSandboxState_SANDBOX_READY, "state")
	t.Equal(s.Annotations["cri-test/note"], "kept", "annotation")
	t.Equal(s.Metadata.Name, p.Config.Metadata.Name, "name")
	t.Check(s.CreatedAt > 0, "no time of creation")
	listed := func(filter *rt.PodSandboxFilter) int {
		pods, err := t.runtime.ListPodSandbox(t.ctx, filter)
		t.Must(err, "list")
		return len(pods)
	}
	ready, not := &rt.PodSandboxStateValue{State: rt.PodSandboxState_SANDBOX_READY}, &rt.PodSandboxStateValue{State: rt.PodSandboxState_SANDBOX_NOTREADY}
	t.Equal(listed(&rt.PodSandboxFilter{Id: p.ID}), 1, "by id")
	t.Equal(listed(&rt.PodSandboxFilter{LabelSelector: map[string]string{"case": t.name}}), 1, "by label")
	t.Equal(listed(&rt.PodSandboxFilter{Id: p.ID, State: ready}), 1, "by state")
	t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop")
	t.Equal(p.Status().State, rt.PodSandboxState_SANDBOX_NOTREADY, "state after stop")
	t.Equal(listed(&rt.PodSandboxFilter{Id: p.ID, State: not}), 1, "by state")
	t.Must(t.runtime.RemovePodSandbox(t.ctx, p.ID), "remove")
	t.Equal(listed(&rt.PodSandboxFilter{Id: p.ID}), 0, "after remove")
}

func containerLife(t *T) {
	p := t.Pod()
	c := p.Create("c", t.image("native"), []string{"sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"})
	t.Equal(c.State(), "CREATED", "state")
	listed := func(filter *rt.ContainerFilter) int {
		all, err := t.runtime.ListContainers(t.ctx, filter)
		t.Must(err, "list")
		return len(all)
	}
	t.Equal(listed(&rt.ContainerFilter{Id: c.ID}), 1, "by id")
	t.Equal(listed(&rt.ContainerFilter{PodSandboxId: p.ID}), 1, "by pod")
	t.Equal(listed(&rt.ContainerFilter{PodSandboxId: p.ID, LabelSelector: map[string]string{"container": "c"}}), 1, "by label")
	t.Must(t.runtime.StartContainer(t.ctx, c.ID), "start")
	t.Equal(c.State(), "RUNNING", "state")
	t.Refused(t.runtime.StartContainer(t.ctx, c.ID), "a second start")
	s := c.Status()
	t.Equal(s.LogPath, c.LogFile(), "log path")
	t.Check(s.CreatedAt > 0 && s.StartedAt >= s.CreatedAt, "times %d, %d", s.CreatedAt, s.StartedAt)
	t.Equal(s.Image.Image, t.image("native"), "image")
	c.Stop(10)
	s = c.Status()
	t.Check(s.FinishedAt >= s.StartedAt, "finished at %d, started at %d", s.FinishedAt, s.StartedAt)
	t.Equal(s.State, rt.ContainerState_CONTAINER_EXITED, "state")
	c.Remove()
	t.Equal(listed(&rt.ContainerFilter{Id: c.ID}), 0, "after remove")
}
