// SPDX-License-Identifier: Apache-2.0

// Volumes as kubelet prepares them: directories, files, symlinks, propagation, read-only in its degrees,
// and the trees that ConfigMaps are.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Volume makes a directory on the host with files in it, gone with the case.
func (t *T) Volume(files map[string]string) string {
	t.number++
	dir := fmt.Sprintf("%s/%s-%d", shared, t.name, t.number)
	t.Must(os.MkdirAll(dir, 0o777), "make a volume")
	os.Chmod(dir, 0o777)
	for name, body := range files {
		os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755)
		t.Must(os.WriteFile(dir+"/"+name, []byte(body), 0o644), "fill a volume")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ConfigMap makes a volume as kubelet's atomic writer does: names point into ..data, which points to
// the directory of this generation. The function replaces the generation.
func (t *T) ConfigMap(name, body string) (string, func(string)) {
	dir := t.Volume(nil)
	generation := 0
	publish := func(body string) {
		generation++
		at := fmt.Sprintf("..2026_%d", generation)
		t.Must(os.Mkdir(dir+"/"+at, 0o755), "make a generation")
		t.Must(os.WriteFile(dir+"/"+at+"/"+name, []byte(body), 0o644), "write a generation")
		t.Must(os.Symlink(at, dir+"/..data_tmp"), "link a generation")
		t.Must(os.Rename(dir+"/..data_tmp", dir+"/..data"), "publish a generation")
	}
	publish(body)
	t.Must(os.Symlink("..data/"+name, dir+"/"+name), "link a file")
	return dir, publish
}

// tmpfsAt mounts a tmpfs here, unmounted with the case.
func (t *T) tmpfsAt(path string) {
	t.Must(os.MkdirAll(path, 0o755), "make a mount point")
	t.Must(syscall.Mount("case", path, "tmpfs", 0, ""), "mount a tmpfs")
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
}

// sharedVolume is a mount of its own whose propagation is shared.
func (t *T) sharedVolume() string {
	dir := t.Volume(nil)
	t.Must(syscall.Mount(dir, dir, "", syscall.MS_BIND, ""), "bind")
	t.Must(syscall.Mount("", dir, "", syscall.MS_SHARED, ""), "share")
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func init() {
	both("mounts", "a directory, both ways", func(t *T) {
		dir := t.Volume(map[string]string{"in": "from the host\n"})
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol"}))
		t.Equal(c.Exec("cat", "/vol/in"), "from the host", "read")
		c.ExecSh("echo from inside > /vol/out")
		body, err := os.ReadFile(dir + "/out")
		t.Must(err, "read here")
		t.Equal(string(body), "from inside\n", "written")
	})
	both("mounts", "read-only", func(t *T) {
		dir := t.Volume(map[string]string{"in": "x"})
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", Readonly: true}))
		t.Contains(c.ExecFails("sh", "-c", "echo y > /vol/in"), "Read-only", "the error")
	})
	both("mounts", "a single file", func(t *T) {
		dir := t.Volume(map[string]string{"hosts": "1.2.3.4 there\n"})
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir + "/hosts", ContainerPath: "/etc/hosts"}))
		t.Equal(c.Exec("cat", "/etc/hosts"), "1.2.3.4 there", "the file")
	})
	both("mounts", "a symlink on the host is followed", func(t *T) {
		dir := t.Volume(map[string]string{"real/in": "behind the link"})
		t.Must(os.Symlink(dir+"/real", dir+"/link"), "symlink")
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir + "/link", ContainerPath: "/vol"}))
		t.Equal(c.Exec("cat", "/vol/in"), "behind the link", "the file")
	})
	both("mounts", "a host path that is not there is made", func(t *T) {
		dir := t.Volume(nil)
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir + "/new/deep", ContainerPath: "/vol"}))
		c.ExecSh("echo x > /vol/out")
		_, err := os.Stat(dir + "/new/deep/out")
		t.Must(err, "the file here")
	})
	both("mounts", "in a place that the image does not have", func(t *T) {
		dir := t.Volume(map[string]string{"in": "deep"})
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/no/such/place"}))
		t.Equal(c.Exec("cat", "/no/such/place/in"), "deep", "the file")
	})
	both("mounts", "through a symlink of the image stays inside", func(t *T) {
		dir := t.Volume(map[string]string{"in": "inside\n"})
		c := t.Pod().Run("c", t.image("links"), []string{"sh", "-c", "cat /escape/in; sleep 1000"}, mount(&rt.Mount{HostPath: dir, ContainerPath: "/escape"}))
		c.LogHas(20, "inside")
		_, err := os.Stat("/mnt/lab/escaped")
		t.Check(os.IsNotExist(err), "the link led out of the container")
	})
	both("mounts", "shared by two containers", func(t *T) {
		dir := t.Volume(nil)
		p := t.Pod()
		one := p.Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/a"}))
		two := p.Sleeper(attempt(1), mount(&rt.Mount{HostPath: dir, ContainerPath: "/b"}))
		one.ExecSh("echo told > /a/f")
		t.Equal(two.Exec("cat", "/b/f"), "told", "the other's view")
	})
	both("mounts", "a ConfigMap and its update", func(t *T) {
		dir, publish := t.ConfigMap("settings", "one")
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/etc/config", Readonly: true}))
		t.Equal(c.Exec("cat", "/etc/config/settings"), "one", "first generation")
		publish("two")
		t.Equal(c.Exec("cat", "/etc/config/settings"), "two", "second generation")
	})
	both("mounts", "propagation private", func(t *T) {
		dir := t.sharedVolume()
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol"}))
		t.tmpfsAt(dir + "/later")
		t.Lacks(c.Exec("cat", "/proc/mounts"), "/vol/later", "mounts of the container")
	})
	both("mounts", "propagation from the host", func(t *T) {
		dir := t.sharedVolume()
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", Propagation: rt.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}))
		t.tmpfsAt(dir + "/later")
		t.Contains(c.Exec("cat", "/proc/mounts"), "/vol/later", "mounts of the container")
	})
	both("mounts", "propagation both ways", func(t *T) {
		dir := t.sharedVolume()
		c := t.Pod(func(c *rt.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }).Sleeper(
			security(func(s *rt.LinuxContainerSecurityContext) { s.Privileged = true }),
			mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", Propagation: rt.MountPropagation_PROPAGATION_BIDIRECTIONAL}))
		c.ExecSh("mkdir /vol/inner && mount -t tmpfs inner /vol/inner && echo x > /vol/inner/f")
		defer syscall.Unmount(dir+"/inner", syscall.MNT_DETACH)
		_, err := os.Stat(dir + "/inner/f")
		t.Check(err == nil, "the container's mount is not seen here: %v; its mounts: %s", err, c.ExecSh("grep /vol /proc/self/mountinfo"))
		t.tmpfsAt(dir + "/later")
		t.Contains(c.Exec("cat", "/proc/mounts"), "/vol/later", "mounts of the container")
	})
	both("mounts", "propagation both ways of a private path is refused", func(t *T) {
		dir := t.Volume(nil)
		t.Must(syscall.Mount(dir, dir, "", syscall.MS_BIND, ""), "bind")
		t.Must(syscall.Mount("", dir, "", syscall.MS_PRIVATE, ""), "make private")
		defer syscall.Unmount(dir, syscall.MNT_DETACH)
		_, err := t.Pod().TryCreate("c", t.image("native"), []string{"true"},
			mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", Propagation: rt.MountPropagation_PROPAGATION_BIDIRECTIONAL}))
		t.Refused(err, "create")
	})
	both("mounts", "read-only and what is mounted beneath", func(t *T) {
		dir := t.Volume(nil)
		t.tmpfsAt(dir + "/sub")
		c := t.Pod().Sleeper(mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol", Readonly: true}))
		c.ExecSh("echo x > /vol/sub/f") // the mount itself only
		c.ExecFails("sh", "-c", "echo x > /vol/f")
	})
	both("mounts", "recursively read-only", func(t *T) {
		t.NeedsV2("knows no recursive read-only mounts")
		dir := t.Volume(nil)
		t.tmpfsAt(dir + "/sub")
		// Without the feature, containerd 2.1 does not refuse but dies of such a mount.
		t.NeedsFeature("recursive read-only mounts", (*rt.RuntimeHandlerFeatures).GetRecursiveReadOnlyMounts)
		c := t.Pod().Run("c", t.image("native"), []string{"sleep", "1000"}, mount(&rt.Mount{HostPath: dir, ContainerPath: "/vol",
			Readonly: true, RecursiveReadOnly: true, Propagation: rt.MountPropagation_PROPAGATION_PRIVATE}))
		t.Contains(c.ExecFails("sh", "-c", "echo x > /vol/sub/f"), "Read-only", "the error")
	})
	both("mounts", "a device is passed", func(t *T) {
		c := t.Pod().Sleeper(func(c *rt.ContainerConfig) {
			c.Devices = []*rt.Device{{HostPath: "/dev/null", ContainerPath: "/dev/other-null", Permissions: "rw"}}
		})
		c.ExecSh("echo x > /dev/other-null")
		t.Contains(c.Exec("ls", "-l", "/dev/other-null"), "1,   3", "the device")
	})
	both("mounts", "shm is the pod's", func(t *T) {
		p := t.Pod()
		one, two := p.Sleeper(), p.Sleeper(attempt(1))
		one.ExecSh("echo told > /dev/shm/f")
		t.Equal(two.Exec("cat", "/dev/shm/f"), "told", "the other's view")
	})
}
