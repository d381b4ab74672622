// SPDX-License-Identifier: Apache-2.0

// Limits, their change while the container runs, what is told when memory ends; stats and metrics.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CgroupFile reads a file of the container's cgroup, named as v1 has it ("memory", "memory.limit_in_bytes").
func (c *Container) CgroupFile(controller, name string) string {
	paths, _ := filepath.Glob("/sys/fs/cgroup/" + controller + c.pod.Config.Linux.CgroupParent + "/" + c.ID + "/" + name)
	if len(paths) == 0 {
		paths, _ = filepath.Glob("/sys/fs/cgroup/" + controller + ",*" + c.pod.Config.Linux.CgroupParent + "/" + c.ID + "/" + name)
	}
	if len(paths) == 0 {
		c.t.Skip("no hierarchy of v1 with %s on this machine", controller)
	}
	body, err := os.ReadFile(paths[0])
	c.t.Must(err, "read a limit")
	return strings.TrimSpace(string(body))
}

const mib = 1 << 20

func init() {
	both("limits", "cpu and memory are set", func(t *T) {
		c := t.Pod().Sleeper(resources(&rt.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 * mib, CpusetCpus: "0"}))
		t.Equal(c.CgroupFile("memory", "memory.limit_in_bytes"), 64*mib, "memory")
		t.Equal(c.CgroupFile("cpu", "cpu.cfs_quota_us"), 50000, "quota")
		t.Equal(c.CgroupFile("cpu", "cpu.shares"), 512, "shares")
		t.Equal(c.CgroupFile("cpuset", "cpuset.cpus"), "0", "cpuset")
	})
	both("limits", "changed while it runs", func(t *T) {
		c := t.Pod().Sleeper(resources(&rt.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 64 * mib}))
		resized(t, c)
		t.Equal(c.Exec("echo", "alive"), "alive", "the container")
	})
	both("limits", "changed before it runs", func(t *T) {
		c := t.Pod().Create("c", t.image("native"), []string{"sleep", "1000"}, resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 64 * mib}))
		t.Must(t.runtime.UpdateContainerResources(t.ctx, c.ID, &rt.ContainerResources{Linux: &rt.LinuxContainerResources{MemoryLimitInBytes: 80 * mib}}), "update")
		t.Must(t.runtime.StartContainer(t.ctx, c.ID), "start")
		t.Equal(c.CgroupFile("memory", "memory.limit_in_bytes"), 80*mib, "memory")
	})
	both("limits", "out of memory is the reason", func(t *T) {
		c := t.Pod().Run("c", t.image("native"), []string{"demo", "hog"}, resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 32 * mib}))
		s := c.Ended(60)
		t.Equal(fmt.Sprint(s.ExitCode, s.Reason), "137OOMKilled", "code and reason")
	})
	both("limits", "out of memory of an exec leaves the container", func(t *T) {
		c := t.Pod().Sleeper(resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 32 * mib}))
		_, _, code, err := c.Try("demo", "hog")
		t.Must(err, "exec")
		t.Equal(code, 137, "exit code")
		t.Equal(c.Exec("echo", "alive"), "alive", "the container")
	})
	both("stats", "of a container", func(t *T) {
		c := t.Pod().Sh("c", "i=0; while :; do i=$((i+1)); done", resources(&rt.LinuxContainerResources{MemoryLimitInBytes: 64 * mib}))
		numbers(t, c)
	})
	both("stats", "listed by pod and label", func(t *T) {
		p := t.Pod()
		c := p.Sleeper()
		other := t.Pod().Sleeper()
		all, err := t.runtime.ListContainerStats(t.ctx, &rt.ContainerStatsFilter{PodSandboxId: p.ID})
		t.Must(err, "list")
		t.Equal(len(all), 1, "of the pod")
		t.Equal(all[0].Attributes.Id, c.ID, "of the pod")
		all, err = t.runtime.ListContainerStats(t.ctx, &rt.ContainerStatsFilter{Id: other.ID})
		t.Must(err, "list")
		t.Equal(len(all), 1, "by id")
	})
	both("stats", "of a pod", func(t *T) {
		p := t.Pod()
		p.Sleeper()
		var s *rt.PodSandboxStats
		t.Eventually(30, "numbers of the pod", func() (bool, string) {
			var err error
			if s, err = t.runtime.PodSandboxStats(t.ctx, p.ID); err != nil {
				return false, err.Error()
			}
			return s.Linux.GetCpu().GetUsageCoreNanoSeconds().GetValue() > 0 && len(s.Linux.GetContainers()) == 1, s.String()
		})
		t.Equal(s.Attributes.Id, p.ID, "id")
		t.Check(s.Linux.Memory.WorkingSetBytes.GetValue() > 0, "no memory: %v", s.Linux.Memory)
		t.Equal(s.Linux.Network.DefaultInterface.Name, "eth0", "interface")
		t.Check(s.Linux.Process.ProcessCount.GetValue() > 0, "no processes: %v", s.Linux.Process)
		list, err := t.runtime.ListPodSandboxStats(t.ctx, &rt.PodSandboxStatsFilter{Id: p.ID})
		t.Must(err, "list")
		t.Equal(len(list), 1, "listed")
	})
	both("stats", "metrics of pods", func(t *T) {
		descriptors, err := t.runtime.ListMetricDescriptors(t.ctx)
		if err != nil && status.Code(err) == codes.Unimplemented {
			t.Skip("containerd %s has no such call", t.version)
		}
		t.Must(err, "descriptors")
		p := t.Pod()
		p.Sleeper()
		all, err := t.runtime.ListPodSandboxMetrics(t.ctx)
		t.Must(err, "metrics")
		if len(descriptors) == 0 && len(all) == 0 {
			t.Skip("containerd %s answers with empty lists", t.version)
		}
		for _, m := range all {
			if m.PodSandboxId == p.ID {
				return
			}
		}
		t.Fail("the pod is not in %v", all)
	})
	both("stats", "the writable layer", func(t *T) {
		c := t.Pod().Sleeper()
		c.ExecSh("head -c 300000 /dev/zero > /big")
		t.Eventually(40, "300 kB are seen", func() (bool, string) {
			s, err := t.runtime.ContainerStats(t.ctx, c.ID)
			t.Must(err, "stats")
			used := s.GetWritableLayer().GetUsedBytes().GetValue()
			return used >= 300000, fmt.Sprint(used)
		})
	})
}

// resized: an update of a running container, seen in its cgroup and told by its status.
func resized(t *T, c *Container) {
	t.Must(t.runtime.UpdateContainerResources(t.ctx, c.ID, &rt.ContainerResources{Linux: &rt.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 70000, CpuShares: 700, MemoryLimitInBytes: 96 * mib}}), "update")
	t.Equal(c.CgroupFile("memory", "memory.limit_in_bytes"), 96*mib, "memory")
	t.Equal(c.CgroupFile("cpu", "cpu.cfs_quota_us"), 70000, "quota")
	t.Equal(c.CgroupFile("cpu", "cpu.shares"), 700, "shares")
	if t.major >= 2 {
		r := c.Status().Resources.GetLinux()
		t.Equal(fmt.Sprint(r.GetMemoryLimitInBytes(), r.GetCpuQuota()), fmt.Sprint(96*mib, 70000), "status")
	}
	t.Must(t.runtime.UpdateContainerResources(t.ctx, c.ID, &rt.ContainerResources{Linux: &rt.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 20000, MemoryLimitInBytes: 48 * mib}}), "update downwards")
	t.Equal(c.CgroupFile("memory", "memory.limit_in_bytes"), 48*mib, "memory")
}

// numbers: cpu time grows, memory is counted.
func numbers(t *T, c *Container) {
	var first, second uint64
	t.Eventually(30, "cpu time", func() (bool, string) {
		s, err := t.runtime.ContainerStats(t.ctx, c.ID)
		t.Must(err, "stats")
		first = s.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		return first > 0 && s.GetMemory().GetWorkingSetBytes().GetValue() > 0, s.String()
	})
	time.Sleep(1200 * time.Millisecond)
	t.Eventually(30, "more cpu time", func() (bool, string) {
		s, err := t.runtime.ContainerStats(t.ctx, c.ID)
		t.Must(err, "stats")
		second = s.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		return second > first, fmt.Sprint(first, second)
	})
}
