// SPDX-License-Identifier: Apache-2.0

// Pods with a user namespace of their own (hostUsers: false), which containerd knows from 1.7 on.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	mappedTo   = 200000
	mappedSize = 65536
)

func ownUsers(o *rt.NamespaceOption) {
	mapping := []*rt.IDMapping{{ContainerId: 0, HostId: mappedTo, Length: mappedSize}}
	o.UsernsOptions = &rt.UserNamespace{Mode: rt.NamespaceMode_POD, Uids: mapping, Gids: mapping}
}

// usersPod runs a pod in a user namespace; what containerd refuses by itself is a skip.
func usersPod(t *T) *Pod {
	t.Needs(1, 7, "user namespaces come with 1.7")
	p, err := t.TryPod(func(c *rt.PodSandboxConfig) { ownUsers(namespaces(c)) })
	if err != nil && strings.Contains(err.Error(), "user namespaces") && strings.Contains(err.Error(), "support") {
		t.Skip("%v", err)
	}
	t.Must(err, "run the pod")
	return p
}

func init() {
	both("userns", "root inside is nobody outside", func(t *T) {
		c := usersPod(t).Sleeper()
		t.Equal(strings.Join(strings.Fields(c.Exec("cat", "/proc/self/uid_map")), " "), fmt.Sprint("0 ", mappedTo, " ", mappedSize), "uid map")
		t.Equal(c.Exec("id", "-u"), "0", "uid inside")
		var info syscall.Stat_t
		t.Must(syscall.Stat("/proc/"+c.Pid(), &info), "stat")
		t.Equal(info.Uid, mappedTo, "uid outside")
	})
	both("userns", "the root file system belongs to root inside", func(t *T) {
		c := usersPod(t).Sleeper()
		t.Equal(c.Exec("stat", "-c", "%u:%g", "/etc/passwd"), "0:0", "owner")
		c.Exec("touch", "/etc/new")
		c.Exec("chown", "1000:1000", "/etc/new")
	})
	both("userns", "a volume keeps its owners", func(t *T) {
		t.NeedsV2("maps no ids of volumes")
		dir := t.Volume(map[string]string{"f": "text"})
		t.Must(os.Chown(dir+"/f", 1000, 1000), "chown")
		t.Must(os.Chmod(dir+"/f", 0o600), "chmod")
		p := usersPod(t)
		mapping := namespaces(p.Config).UsernsOptions.Uids
		c := p.Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", UidMappings: mapping, GidMappings: mapping}))
		t.Equal(c.Exec("stat", "-c", "%u:%g", "/vol/f"), "1000:1000", "owner inside")
		c.ExecSh("echo x > /vol/new")
		var info syscall.Stat_t
		t.Must(syscall.Stat(dir+"/new", &info), "stat")
		t.Equal(info.Uid, 0, "owner outside")
	})
	both("userns", "stdout may be opened again", func(t *T) {
		t.NeedsV2("leaves the pipes of such a container to root outside, under runc's shim, too")
		for _, uid := range []int64{0, 1000} {
			c := usersPod(t).Run("c", t.image("native"), []string{"sh", "-c", "echo by name > /dev/stdout; echo err > /dev/stderr"}, asUser(uid))
			t.Equal(c.Ended(20).ExitCode, 0, fmt.Sprintf("exit code of uid %d", uid))
			c.LogHas(5, "by name")
			c = usersPod(t).Sleeper(asUser(uid))
			t.Equal(c.ExecSh("echo by name > /dev/stdout"), "by name", fmt.Sprintf("an exec of uid %d", uid))
		}
	})
	both("userns", "two containers share it", func(t *T) {
		p := usersPod(t)
		one, two := p.Sleeper(), p.Sleeper(attempt(1))
		t.Equal(one.Exec("readlink", "/proc/self/ns/user"), two.Exec("readlink", "/proc/self/ns/user"), "namespace")
		t.Equal(one.Exec("hostname"), "pod-host", "host name")
		one.ExecSh("echo told > /dev/shm/f")
		t.Equal(two.Exec("cat", "/dev/shm/f"), "told", "shm")
	})
	both("userns", "exec on a terminal", func(t *T) {
		s := usersPod(t).Sleeper().StreamExec(true, true, "sh", "-c", "tty; id -u; exit 3")
		t.Equal(codeOf(s.Wait(20)), 3, "exit code")
		t.Contains(s.out.String(), "/dev/pts/0\r\n0", "output")
	})
	only("userns", "of a wasm container", func(t *T) {
		c := usersPod(t).Run("wasm", t.image("wasm"), nil, args("daemon"))
		c.LogHas(20, "tick 1")
		var info syscall.Stat_t
		t.Must(syscall.Stat("/proc/"+c.Pid(), &info), "stat")
		t.Equal(info.Uid, mappedTo, "uid outside")
	})
}
