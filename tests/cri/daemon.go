// SPDX-License-Identifier: Apache-2.0

// The private containerd with its CRI plugin: configuration, start, death, and the connections to it;
// what is left behind at the end. Not here: cases that restart it (cases_restart.go).
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"
)

const (
	state  = "/run/cri"
	socket = state + "/containerd.sock"
	logs   = state + "/logs"
	cniDir = state + "/cni"
	shared = "/mnt/lab/shared" // what mounts of cases come from: a real file system
)

type daemon struct {
	lab     string
	process *exec.Cmd
	ended   chan struct{}
}

type environment struct {
	*options
	daemon   *daemon
	registry *registry
	runtime  internalapi.RuntimeService
	images   internalapi.ImageManagerService
	version  string
	major    int
	minor    int
	mounts   map[string]bool // of this namespace before any pod
}

func newEnv(o *options) (*environment, error) {
	env := &environment{options: o, daemon: &daemon{lab: o.lab}, mounts: map[string]bool{}}
	os.Setenv("PATH", o.lab+"/prefix/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	for _, dir := range []string{state, logs, cniDir, shared, o.lab + "/containerd"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"} {
		// Of the network namespace that inroot.sh made.
		if err := os.WriteFile("/proc/sys/"+s, []byte("1"), 0o644); err != nil {
			return nil, err
		}
	}
	// containerd wants its root on a mount whose propagation is known.
	if err := syscall.Mount(o.lab+"/containerd", o.lab+"/containerd", "", syscall.MS_BIND, ""); err != nil {
		return nil, err
	}
	var err error
	if env.registry, err = serveRegistry(o.lab + "/images"); err != nil {
		return nil, err
	}
	words, err := exec.Command("containerd", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("containerd --version: %w", err)
	}
	found := regexp.MustCompile(`v?((\d+)\.(\d+)\.\d+\S*)`).FindStringSubmatch(string(words))
	if found == nil {
		return nil, fmt.Errorf("no version in %q", words)
	}
	env.version = strings.TrimSuffix(strings.SplitN(found[1], "~", 2)[0], "+unknown")
	fmt.Sscan(found[2], &env.major)
	fmt.Sscan(found[3], &env.minor)
	if err := os.WriteFile(cniDir+"/10-cri.conflist", []byte(conflist), 0o644); err != nil {
		return nil, err
	}
	for _, line := range mountPoints() {
		env.mounts[line] = true
	}
	if err := env.restart(env.config("runc")); err != nil {
		return nil, err
	}
	return env, env.pull(context.Background())
}

const conflist = `{"cniVersion":"0.4.0","name":"cri","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local",
  "dataDir":"/run/cri/ipam","ranges":[[{"subnet":"10.88.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
`

// config in the format of the containerd that runs: version 3 for 2.x, 2 for those before. Our handler
// comes from deploy/.
func (env *environment) config(defaultRuntime string) string {
	head := fmt.Sprintf("root = %q\nstate = %q\n[grpc]\n  address = %q\n[debug]\n  level = \"debug\"\n",
		env.lab+"/containerd", state+"/s", socket)
	pause := env.image("pause")
	if env.major >= 2 {
		return "version = 3\n" + head + fmt.Sprintf(`
[plugins."io.containerd.cri.v1.images"]
  use_local_image_pull = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %q
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  drain_exec_sync_io_timeout = "3s"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = %q
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = %q
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.amphora-sandbox]
      runtime_type = "io.containerd.amphora.v1"
      sandboxer = "shim"
`, pause, cniDir, defaultRuntime) + env.dropIn()
	}
	drain := ""
	if env.minor >= 7 {
		drain = "drain_exec_sync_io_timeout = \"3s\""
	}
	return "version = 2\n" + head + fmt.Sprintf(`
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  %s
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = %q
`, pause, drain, cniDir, defaultRuntime) + env.dropIn()
}

// dropInFile: what deploy/ has for the format of this containerd.
func (env *environment) dropInFile() string {
	return fmt.Sprintf("%s/deploy/containerd/config-v%d.toml", env.lab, map[bool]int{true: 3, false: 2}[env.major >= 2])
}

// dropIn: its tables, as somebody would append them to the configuration of a node.
func (env *environment) dropIn() string {
	body, err := os.ReadFile(env.dropInFile())
	if err != nil {
		return ""
	}
	return regexp.MustCompile(`(?m)^version = .*$`).ReplaceAllString(string(body), "")
}

// image by its short name, as a reference to the registry on loopback.
func (env *environment) image(name string) string {
	return env.registry.address + "/" + name + ":1"
}

// restart ends the daemon that runs (by SIGKILL) and starts one with this configuration.
func (env *environment) restart(config string) error {
	env.daemon.kill()
	if err := env.daemon.start(config); err != nil {
		return err
	}
	return env.connect()
}

func (env *environment) connect() error {
	var last error
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		select {
		case <-env.daemon.ended:
			return fmt.Errorf("containerd ended: %s", env.daemon.logTail(2000))
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		service, err := cri.NewRemoteRuntimeService(ctx, "unix://"+socket, 2*time.Minute, nil, false)
		if err == nil {
			var status *rt.StatusResponse
			if status, err = service.Status(ctx, false); err == nil && !runtimeReady(status) {
				err = fmt.Errorf("not ready: %v", status.Status)
			}
			env.runtime = service
		}
		if err == nil {
			env.images, err = cri.NewRemoteImageService(ctx, "unix://"+socket, 2*time.Minute, nil, false)
		}
		cancel()
		if last = err; err == nil {
			return nil
		}
	}
	return fmt.Errorf("containerd does not answer: %w; %s", last, env.daemon.logTail(2000))
}

func runtimeReady(s *rt.StatusResponse) bool {
	for _, condition := range s.GetStatus().GetConditions() {
		if condition.Type == rt.RuntimeReady {
			return condition.Status
		}
	}
	return false
}

// pull takes all images from the registry, as kubelet does before it creates a container.
func (env *environment) pull(ctx context.Context) error {
	for name := range env.registry.manifests {
		if env.major == 1 && env.minor < 7 && slices.Contains(wasmLayers, name) {
			continue // not to be unpacked there
		}
		spec := &rt.ImageSpec{Image: env.registry.address + "/" + name}
		if _, err := env.images.PullImage(ctx, spec, nil, nil); err != nil {
			return fmt.Errorf("pull %s: %w", name, err)
		}
	}
	return nil
}

func (d *daemon) start(config string) error {
	path := state + "/config.toml"
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return err
	}
	log, err := os.OpenFile(d.lab+"/containerd.log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.process = exec.Command("containerd", "-c", path)
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	d.ended = ended
	go func(process *exec.Cmd) {
		process.Wait()
		close(ended)
	}(d.process)
	return nil
}

func (d *daemon) kill() {
	if d.process == nil {
		return
	}
	d.process.Process.Signal(syscall.SIGKILL)
	<-d.ended
}

func (d *daemon) stop() {
	d.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		d.kill()
	}
}

func (d *daemon) logTail(size int64) string {
	body, _ := os.ReadFile(d.lab + "/containerd.log")
	return tail(string(body), int(size))
}

func mountPoints() []string {
	body, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for _, line := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		points = append(points, strings.Fields(line)[4])
	}
	return points
}

// shimPids: the shims of a runtime that live, by their program's name.
func shimPids(binary string) []string {
	var pids []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		body, _ := os.ReadFile(path)
		if strings.HasSuffix(strings.SplitN(string(body), "\x00", 2)[0], binary) {
			pids = append(pids, strings.Split(path, "/")[2])
		}
	}
	return pids
}

// leftoverRow: with all pods gone nothing of either runtime may be left.
func leftoverRow(env *environment, o *options) *row {
	r := &row{suite: o.suite, name: "everything.nothing is left", by: map[string]outcome{}}
	begun := time.Now()
	find := func() []string {
		var left []string
		for _, pid := range append(shimPids("containerd-shim-amphora-v1"), shimPids("amphora-wasm")...) {
			left = append(left, "process "+pid)
		}
		for _, point := range mountPoints() {
			if !env.mounts[point] && !strings.HasPrefix(point, shared) {
				left = append(left, "mount "+point)
			}
		}
		for _, glob := range []string{"/run/containerd/s/*", "/run/netns/*", "/run/containerd/amphora/*/*",
			state + "/s/io.containerd.runtime.v2.task/k8s.io/*", state + "/s/io.containerd.sandbox.controller.v1.shim/k8s.io/*"} {
			entries, _ := filepath.Glob(glob)
			left = append(left, entries...)
		}
		for _, path := range cgroupsOf(o.cgroup) {
			if body, _ := os.ReadFile(path + "/cgroup.procs"); len(body) > 0 {
				left = append(left, "processes in "+path)
			}
			if strings.Count(strings.SplitN(path, o.cgroup, 2)[1], "/") > 1 {
				left = append(left, path) // a container's own; parents are the kubelet's
			}
		}
		return left
	}
	left := find()
	for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); left = find() {
		time.Sleep(100 * time.Millisecond)
	}
	word, text := "passed", ""
	if len(left) > 0 {
		word, text = "failed", strings.Join(left[:min(len(left), 8)], ", ")
	}
	r.by["amphora"] = outcome{word, text, time.Since(begun).Seconds()}
	fmt.Printf("%-4s %s %s%s\n", map[string]string{"passed": "ok", "failed": "FAIL"}[word], o.suite, r.name, orNothing(": ", text))
	return r
}

func cgroupsOf(name string) []string {
	var found []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		filepath.WalkDir(root+"/"+name, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

func removeCgroups(name string) {
	paths := cgroupsOf(name)
	sort.Slice(paths, func(i, j int) bool { return len(paths[i]) > len(paths[j]) })
	for _, path := range paths {
		os.Remove(path)
	}
}
