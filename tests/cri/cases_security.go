// SPDX-License-Identifier: Apache-2.0

// The security context: users and groups, capabilities, privileges, namespaces of pod and host, masked
// and read-only paths, seccomp. User namespaces are in cases_userns.go.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type secure = *rt.LinuxContainerSecurityContext

func privilegedPod(c *rt.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }

func capabilityMask(t *T, c *Container, which string) string {
	for _, line := range strings.Split(c.Exec("cat", "/proc/1/status"), "\n") {
		if value, found := strings.CutPrefix(line, which+":"); found {
			return strings.TrimSpace(value)
		}
	}
	t.Fail("no %s in status", which)
	return ""
}

func init() {
	both("user", "by number", func(t *T) {
		c := t.Pod().Sleeper(asUser(1234))
		t.Equal(c.Exec("id", "-u")+" "+c.Exec("id", "-g"), "1234 0", "uid and gid")
	})
	both("user", "by number, with a group", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) {
			s.RunAsUser, s.RunAsGroup = &rt.Int64Value{Value: 1234}, &rt.Int64Value{Value: 5678}
		}))
		t.Equal(c.Exec("id", "-u")+" "+c.Exec("id", "-g"), "1234 5678", "uid and gid")
	})
	both("user", "by name", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) { s.RunAsUsername = "www-data" }))
		t.Equal(c.Exec("id", "-u")+" "+c.Exec("id", "-g"), "33 33", "uid and gid")
	})
	both("user", "a group without a user is refused", func(t *T) {
		_, err := t.Pod().TryCreate("c", t.image("native"), []string{"true"}, security(func(s secure) { s.RunAsGroup = &rt.Int64Value{Value: 7} }))
		t.Refused(err, "create")
	})
	both("user", "supplemental groups", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) {
			s.RunAsUser, s.SupplementalGroups = &rt.Int64Value{Value: 1000}, []int64{2345, 3456}
		}))
		groups := " " + c.Exec("id", "-G") + " "
		for _, want := range []string{" 2345 ", " 3456 ", " 50000 "} { // the last one is the image's /etc/group
			t.Contains(groups, want, "groups")
		}
	})
	both("user", "supplemental groups, strictly", func(t *T) {
		t.NeedsV2("knows no policy of groups")
		c := t.Pod().Sleeper(security(func(s secure) {
			s.RunAsUser, s.SupplementalGroups = &rt.Int64Value{Value: 1000}, []int64{2345}
			s.SupplementalGroupsPolicy = rt.SupplementalGroupsPolicy_Strict
		}))
		t.Lacks(c.Exec("id", "-G"), "50000", "groups")
	})
	for image, want := range map[string]string{"user-number": "1002 0", "user-name": "33 33", "user-and-group": "1003 1005", "user-root": "0 0"} {
		both("user", "of the image: "+image, func(t *T) {
			c := t.Pod().Run("c", t.image(image), []string{"sleep", "1000"})
			t.Equal(c.Exec("id", "-u")+" "+c.Exec("id", "-g"), want, "uid and gid")
		})
	}
	both("user", "not root, as the image says", func(t *T) {
		// runAsNonRoot: kubelet asks for the image's user, and refuses root and names.
		for image, want := range map[string]string{"user-number": "1002", "user-root": "0", "user-name": "name www-data"} {
			s, err := t.images.ImageStatus(t.ctx, &rt.ImageSpec{Image: t.image(image)}, false)
			t.Must(err, "status of an image")
			got := "name " + s.Image.Username
			if s.Image.Uid != nil {
				got = fmt.Sprint(s.Image.Uid.Value)
			}
			if image == "user-root" && s.Image.Uid == nil && s.Image.Username == "" {
				got = "0" // nobody named is root
			}
			t.Equal(got, want, "user of "+image)
		}
		c := t.Pod().Run("c", t.image("user-number"), []string{"sleep", "1000"}, security(func(s secure) { s.NoNewPrivs = true }))
		var info syscall.Stat_t
		t.Must(syscall.Stat("/proc/"+c.Pid(), &info), "stat")
		t.Equal(info.Uid, 1002, "the process' user, seen from here")
		t.Contains(c.ExecFails("touch", "/etc/new"), "denied", "the error")
	})
	both("privileges", "a read-only root", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) { s.ReadonlyRootfs = true }))
		t.Contains(c.ExecFails("touch", "/etc/new"), "Read-only", "the error")
		c.ExecSh("echo x > /dev/shm/f")
		t.Pod().Sleeper().Exec("touch", "/etc/new")
	})
	both("privileges", "privileged", func(t *T) {
		c := t.Pod(privilegedPod).Sleeper(security(func(s secure) { s.Privileged = true }))
		c.ExecSh("mkdir /tmp/m && mount -t tmpfs t /tmp/m && umount /tmp/m")
		c.ExecSh("echo 1 > /proc/sys/net/ipv4/ip_forward")
		t.Check(strings.Count(c.Exec("ls", "/dev"), "\n") > 20, "few devices")
		t.Equal(c.ExecSh("grep Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:0", "seccomp")
	})
	both("privileges", "not privileged", func(t *T) {
		c := t.Pod().Sleeper()
		c.ExecFails("sh", "-c", "mkdir /tmp/m && mount -t tmpfs t /tmp/m")
		c.ExecFails("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
		c.ExecFails("sh", "-c", "mknod /tmp/d b 7 0 && dd if=/tmp/d of=/dev/null count=1")
	})
	both("privileges", "a privileged container needs a privileged pod", func(t *T) {
		_, err := t.Pod().TryCreate("c", t.image("native"), []string{"true"}, security(func(s secure) { s.Privileged = true }))
		t.Refused(err, "create")
	})
	both("privileges", "capabilities by default", func(t *T) {
		t.Equal(capabilityMask(t, t.Pod().Sleeper(), "CapEff"), "00000000a80425fb", "effective")
	})
	both("privileges", "capabilities added and dropped", func(t *T) {
		p := t.Pod()
		cap := func(n uint32, add, drop []string) *Container {
			return p.Sleeper(attempt(n), security(func(s secure) { s.Capabilities = &rt.Capability{AddCapabilities: add, DropCapabilities: drop} }))
		}
		t.Equal(capabilityMask(t, cap(0, []string{"NET_ADMIN"}, nil), "CapEff"), "00000000a80435fb", "one added")
		t.Equal(capabilityMask(t, cap(1, nil, []string{"CHOWN"}), "CapBnd"), "00000000a80425fa", "one dropped")
		t.Equal(capabilityMask(t, cap(2, nil, []string{"ALL"}), "CapEff"), "0000000000000000", "all dropped")
		t.Equal(capabilityMask(t, cap(3, []string{"SYS_TIME"}, []string{"ALL"}), "CapEff"), "0000000002000000", "all dropped, one added")
		cap(4, []string{"NET_ADMIN"}, nil).ExecSh("ip link add type veth")
	})
	both("privileges", "all capabilities", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) { s.Capabilities = &rt.Capability{AddCapabilities: []string{"ALL"}} }))
		own, err := os.ReadFile("/proc/self/status")
		t.Must(err, "own status")
		t.Contains(string(own), "CapBnd:\t"+capabilityMask(t, c, "CapBnd"), "what this process may have")
	})
	both("privileges", "a set-uid program without new privileges", func(t *T) {
		run := func(deny bool) string {
			c := t.Pod().Run("c", t.image("setuid"), nil, asUser(1000), security(func(s secure) { s.NoNewPrivs = deny }))
			t.Equal(c.Ended(20).ExitCode, 0, "exit code")
			return c.Log("stdout")
		}
		t.Equal(run(true), "effective uid 1000\n", "denied")
		t.Equal(run(false), "effective uid 0\n", "allowed")
	})
	both("namespaces", "of the host: pid", func(t *T) {
		c := t.Pod(func(c *rt.PodSandboxConfig) { namespaces(c).Pid = rt.NamespaceMode_NODE }).Sleeper()
		t.Contains(c.Exec("ps"), "containerd -c", "processes")
		link, err := os.Readlink("/proc/self/ns/pid")
		t.Must(err, "own namespace")
		t.Equal(c.Exec("readlink", "/proc/self/ns/pid"), link, "namespace")
	})
	both("namespaces", "what shares the host's pids ends with its container", func(t *T) {
		c := t.Pod(func(c *rt.PodSandboxConfig) { namespaces(c).Pid = rt.NamespaceMode_NODE }).Sh("c", "sleep 4321 & sleep 4322 & wait")
		t.Eventually(10, "its children run", func() (bool, string) { return len(shimPids("sleep")) > 0, "" })
		c.Stop(0)
		t.Eventually(10, "its children are gone", func() (bool, string) {
			body := c.pod.Sleeper(attempt(9)).Exec("ps")
			return !strings.Contains(body, "sleep 432"), body
		})
	}).alone = true
	both("namespaces", "of the host: ipc", func(t *T) {
		link, err := os.Readlink("/proc/self/ns/ipc")
		t.Must(err, "own namespace")
		host := t.Pod(func(c *rt.PodSandboxConfig) { namespaces(c).Ipc = rt.NamespaceMode_NODE }).Sleeper()
		t.Equal(host.Exec("readlink", "/proc/self/ns/ipc"), link, "host's")
		own := t.Pod().Sleeper()
		t.Check(own.Exec("readlink", "/proc/self/ns/ipc") != link, "a pod has the host's ipc namespace unasked")
	})
	both("namespaces", "of the host: network", func(t *T) {
		link, err := os.Readlink("/proc/self/ns/net")
		t.Must(err, "own namespace")
		t.Equal(t.Pod(hostNetwork).Sleeper().Exec("readlink", "/proc/self/ns/net"), link, "host's")
	})
	both("namespaces", "pids of a container alone", func(t *T) {
		c := t.Pod().Sh("c", "exec sleep 1000")
		t.Equal(c.Exec("cat", "/proc/1/comm"), "sleep", "pid 1")
	})
	both("namespaces", "pids of the pod", func(t *T) {
		p := t.Pod(sharedPids)
		one := p.Run("one", t.image("native"), []string{"sleep", "1111"})
		two := p.Run("two", t.image("native"), []string{"sleep", "2222"})
		for _, c := range []*Container{one, two} {
			t.Equal(c.Exec("cat", "/proc/1/comm"), "pause", "pid 1")
			t.Contains(c.Exec("ps"), "sleep 1111", "processes")
			t.Contains(c.Exec("ps"), "sleep 2222", "processes")
		}
		one.Stop(0)
		t.Equal(two.State(), "RUNNING", "the other")
		t.Lacks(two.Exec("ps"), "sleep 1111", "processes afterwards")
	})
	both("namespaces", "pids of another container", func(t *T) {
		p := t.Pod()
		target := p.Run("target", t.image("native"), []string{"sleep", "3333"})
		debug := p.Run("debug", t.image("native"), []string{"sleep", "1000"}, security(func(s secure) {
			s.NamespaceOptions = &rt.NamespaceOption{Pid: rt.NamespaceMode_TARGET, TargetId: target.ID}
		}))
		t.Contains(debug.Exec("ps"), "sleep 3333", "processes")
		t.Equal(debug.Exec("cat", "/proc/1/comm"), "sleep", "pid 1")
		debug.Stop(0)
		t.Equal(target.State(), "RUNNING", "the target")
	})
	both("paths", "masked and read-only by default", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) {
			s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore", "/bin/ls"}, []string{"/proc/sys", "/var"}
		}))
		t.Equal(c.Exec("wc", "-c", "/bin/ls"), "0 /bin/ls", "a masked file")
		t.Contains(c.ExecFails("touch", "/var/new"), "Read-only", "a read-only path")
	})
	both("paths", "none masked", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) { s.MaskedPaths, s.ReadonlyPaths = []string{}, []string{} }))
		t.Lacks(c.Exec("cat", "/proc/mounts"), "/proc/kcore", "mounts")
		t.Lacks(c.Exec("cat", "/proc/mounts"), "/proc/sys ", "mounts")
	})
	both("seccomp", "the runtime's default", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) {
			s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_RuntimeDefault}
		}))
		t.Equal(c.ExecSh("grep Seccomp: /proc/1/status | tr -d '\\t'"), "Seccomp:2", "init")
		t.Equal(c.ExecSh("grep Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:2", "exec")
		c.ExecFails("unshare", "-U", "true")
	})
	both("seccomp", "unconfined", func(t *T) {
		c := t.Pod().Sleeper(security(func(s secure) { s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_Unconfined} }))
		t.Equal(c.ExecSh("grep Seccomp: /proc/1/status | tr -d '\\t'"), "Seccomp:0", "init")
	})
	both("seccomp", "a profile of the host", func(t *T) {
		path := t.Volume(map[string]string{"profile.json": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sethostname","chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO"}]}`}) + "/profile.json"
		for _, nnp := range []bool{false, true} {
			c := t.Pod().Sleeper(attempt(1), security(func(s secure) {
				s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_Localhost, LocalhostRef: path}
				s.NoNewPrivs = nnp
			}))
			t.Contains(c.ExecFails("chmod", "0600", "/etc/passwd"), "not permitted", fmt.Sprintf("chmod, no new privileges %v", nnp))
		}
	})
	both("seccomp", "a profile that is not there", func(t *T) {
		_, err := t.Pod().TryCreate("c", t.image("native"), []string{"true"}, security(func(s secure) {
			s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}
		}))
		t.Refused(err, "create")
	})
}
