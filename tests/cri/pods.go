// SPDX-License-Identifier: Apache-2.0

// Pods and containers as a case handles them: made with the defaults a kubelet gives, changed by
// functions, gone when the case ends. Not here: streams (streams.go), what is asked (cases_*.go).
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/exec"
)

type Pod struct {
	t      *T
	ID     string
	Config *rt.PodSandboxConfig
}

type Container struct {
	pod    *Pod
	t      *T
	ID     string
	Config *rt.ContainerConfig
}

type podChange func(*rt.PodSandboxConfig)
type change func(*rt.ContainerConfig)

// PodConfig: what kubelet sends for a plain pod.
func (t *T) PodConfig(changes ...podChange) *rt.PodSandboxConfig {
	t.number++
	uid := fmt.Sprintf("%s-%d-%d", t.name, os.Getpid(), t.number)
	config := &rt.PodSandboxConfig{
		Metadata:     &rt.PodSandboxMetadata{Name: fmt.Sprintf("%s-%d", t.name, t.number), Uid: uid, Namespace: "cri-test", Attempt: 0},
		Hostname:     "pod-host",
		LogDirectory: filepath.Join(logs, uid),
		Labels:       map[string]string{"case": t.name},
		Annotations:  map[string]string{"cri-test/note": "kept"},
		Linux: &rt.LinuxPodSandboxConfig{
			CgroupParent: "/" + t.cgroup + "/pod" + uid,
			SecurityContext: &rt.LinuxSandboxSecurityContext{NamespaceOptions: &rt.NamespaceOption{
				Pid: rt.NamespaceMode_CONTAINER}},
		},
	}
	for _, c := range changes {
		c(config)
	}
	return config
}

func namespaces(c *rt.PodSandboxConfig) *rt.NamespaceOption {
	return c.Linux.SecurityContext.NamespaceOptions
}

func hostNetwork(c *rt.PodSandboxConfig) {
	namespaces(c).Network = rt.NamespaceMode_NODE
	c.Hostname = ""
}
func sharedPids(c *rt.PodSandboxConfig) { namespaces(c).Pid = rt.NamespaceMode_POD }

// Pod runs a sandbox; it is stopped and removed at the case's end.
func (t *T) Pod(changes ...podChange) *Pod {
	p, err := t.TryPod(changes...)
	t.Must(err, "run the pod")
	return p
}

func (t *T) TryPod(changes ...podChange) (*Pod, error) {
	config := t.PodConfig(changes...)
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return nil, err
	}
	id, err := t.runtime.RunPodSandbox(t.ctx, config, t.Handler)
	if err != nil {
		return nil, err
	}
	p := &Pod{t, id, config}
	t.Cleanup(func() {
		if _, err := t.runtime.PodSandboxStatus(t.ctx, id, false); status.Code(err) == codes.NotFound {
			return
		}
		// Network plugins fail now and then on a busy machine; kubelet, too, tries again.
		t.Eventually(20, "the pod is stopped", func() (bool, string) {
			err := t.runtime.StopPodSandbox(t.ctx, id)
			return err == nil, fmt.Sprint(err)
		})
		t.Must(t.runtime.RemovePodSandbox(t.ctx, id), "remove the pod")
	})
	return p, nil
}

func (p *Pod) Status() *rt.PodSandboxStatus {
	s, err := p.t.runtime.PodSandboxStatus(p.t.ctx, p.ID, false)
	p.t.Must(err, "status of the pod")
	return s.Status
}

func (p *Pod) IP() string { return p.Status().GetNetwork().GetIp() }

// Create makes a container: words are its command, empty for the image's own.
func (p *Pod) Create(name, image string, words []string, changes ...change) *Container {
	c, err := p.TryCreate(name, image, words, changes...)
	p.t.Must(err, "create "+name)
	return c
}

func (p *Pod) TryCreate(name, image string, words []string, changes ...change) (*Container, error) {
	own := *namespaces(p.Config)
	config := &rt.ContainerConfig{
		Metadata: &rt.ContainerMetadata{Name: name},
		Image:    &rt.ImageSpec{Image: image},
		Command:  words,
		Labels:   map[string]string{"container": name},
		Linux: &rt.LinuxContainerConfig{
			Resources:       &rt.LinuxContainerResources{},
			SecurityContext: &rt.LinuxContainerSecurityContext{NamespaceOptions: &own},
		},
	}
	for _, c := range changes {
		c(config)
	}
	config.LogPath = fmt.Sprintf("%s_%d.log", name, config.Metadata.Attempt)
	id, err := p.t.runtime.CreateContainer(p.t.ctx, p.ID, config, p.Config)
	if err != nil {
		return nil, err
	}
	return &Container{p, p.t, id, config}, nil
}

func (p *Pod) Run(name, image string, words []string, changes ...change) *Container {
	c := p.Create(name, image, words, changes...)
	p.t.Must(p.t.runtime.StartContainer(p.t.ctx, c.ID), "start "+name)
	return c
}

// Sh runs `sh -c script` in the native image.
func (p *Pod) Sh(name, script string, changes ...change) *Container {
	return p.Run(name, p.t.image("native"), []string{"sh", "-c", script}, changes...)
}

// Sleeper: a container that does nothing and ends at once when asked to.
func (p *Pod) Sleeper(changes ...change) *Container {
	return p.Sh("sleeper", "trap 'exit 0' TERM; sleep 1000 & wait", changes...)
}

func (c *Container) Status() *rt.ContainerStatus {
	s, err := c.t.runtime.ContainerStatus(c.t.ctx, c.ID, false)
	c.t.Must(err, "status of the container")
	return s.Status
}

func (c *Container) State() string {
	return strings.TrimPrefix(c.Status().State.String(), "CONTAINER_")
}

// Ended waits for the end and gives the status.
func (c *Container) Ended(seconds int) *rt.ContainerStatus {
	c.t.Eventually(seconds, "container "+c.Config.Metadata.Name+" ends", func() (bool, string) {
		s := c.State()
		return s == "EXITED", s
	})
	return c.Status()
}

func (c *Container) Stop(timeout int64) {
	c.t.Must(c.t.runtime.StopContainer(c.t.ctx, c.ID, timeout), "stop "+c.Config.Metadata.Name)
}

func (c *Container) Remove() {
	c.t.Must(c.t.runtime.RemoveContainer(c.t.ctx, c.ID), "remove "+c.Config.Metadata.Name)
}

// Try runs a program in the container by ExecSync.
func (c *Container) Try(words ...string) (out, errors_ string, code int, err error) {
	stdout, stderr, err := c.t.runtime.ExecSync(c.t.ctx, c.ID, words, 30*time.Second)
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		return string(stdout), string(stderr), exit.Code, nil
	}
	return string(stdout), string(stderr), 0, err
}

// Exec: its output, trimmed; another code than 0 is a failure.
func (c *Container) Exec(words ...string) string {
	out, stderr, code, err := c.Try(words...)
	c.t.Must(err, "exec "+strings.Join(words, " "))
	c.t.Check(code == 0, "exec %v: exit code %d, stdout %q, stderr %q", words, code, out, stderr)
	return strings.TrimSpace(out)
}

func (c *Container) ExecSh(script string) string { return c.Exec("sh", "-c", script) }

// ExecFails: a program that must end with another code than 0; its stderr.
func (c *Container) ExecFails(words ...string) string {
	out, stderr, code, err := c.Try(words...)
	c.t.Must(err, "exec "+strings.Join(words, " "))
	c.t.Check(code != 0, "exec %v succeeded: %q", words, out)
	return stderr
}

func (c *Container) LogFile() string {
	return filepath.Join(c.pod.Config.LogDirectory, c.Config.LogPath)
}

// logLine is one line of a CRI log: time, stream, F or P, text.
type logLine struct{ at, stream, tag, text string }

func (c *Container) LogLines() []logLine {
	body, err := os.ReadFile(c.LogFile())
	c.t.Must(err, "read the log")
	var lines []logLine
	for _, line := range strings.Split(strings.TrimSuffix(string(body), "\n"), "\n") {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) == 4 {
			lines = append(lines, logLine{parts[0], parts[1], parts[2], parts[3]})
		}
	}
	return lines
}

// Log: all text of a stream ("" for both), partial lines joined.
func (c *Container) Log(stream string) string {
	var text strings.Builder
	for _, line := range c.LogLines() {
		if stream != "" && line.stream != stream {
			continue
		}
		text.WriteString(line.text)
		if line.tag == "F" {
			text.WriteByte('\n')
		}
	}
	return text.String()
}

func (c *Container) LogHas(seconds int, part string) {
	c.t.Eventually(seconds, fmt.Sprintf("%q in the log of %s", part, c.Config.Metadata.Name), func() (bool, string) {
		text := c.Log("")
		return strings.Contains(text, part), text
	})
}

// Pid of the container's init, seen from here.
func (c *Container) Pid() string {
	s, err := c.t.runtime.ContainerStatus(c.t.ctx, c.ID, true)
	c.t.Must(err, "status of the container")
	_, after, found := strings.Cut(s.Info["info"], `"pid":`)
	c.t.Check(found, "no pid in %s", s.Info["info"])
	return strings.TrimSpace(after[:strings.IndexAny(after, ",}")])
}

// Changes that many cases want.

func security(f func(*rt.LinuxContainerSecurityContext)) change {
	return func(c *rt.ContainerConfig) { f(c.Linux.SecurityContext) }
}
func resources(r *rt.LinuxContainerResources) change {
	return func(c *rt.ContainerConfig) { c.Linux.Resources = r }
}
func withEnv(key, value string) change {
	return func(c *rt.ContainerConfig) { c.Envs = append(c.Envs, &rt.KeyValue{Key: key, Value: []byte(value)}) }
}
func mount(m *rt.Mount) change {
	return func(c *rt.ContainerConfig) { c.Mounts = append(c.Mounts, m) }
}
func attempt(n uint32) change {
	return func(c *rt.ContainerConfig) { c.Metadata.Attempt = n }
}
func withStdin(tty bool) change {
	return func(c *rt.ContainerConfig) { c.Stdin, c.Tty = true, tty }
}
func args(words ...string) change { return func(c *rt.ContainerConfig) { c.Args = words } }
func asUser(uid int64) change {
	return security(func(s *rt.LinuxContainerSecurityContext) { s.RunAsUser = &rt.Int64Value{Value: uid} })
}
