// SPDX-License-Identifier: Apache-2.0

// Guests that serve or answer: a component behind HTTP probes, exports called by name as exec probes.
// The guests are tests/guests/http.wat, calls.wat and, where Rust builds components, component/.
package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// probe is what kubelet's HTTP probe does: a request from outside to the pod's address, good from 200 to 399.
func probe(address string) (bool, string) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(address)
	if err != nil {
		return false, err.Error()
	}
	defer r.Body.Close()
	return r.StatusCode >= 200 && r.StatusCode < 400, r.Status
}

// BecomesReady probes as often as kubelet would until it succeeds.
func (t *T) BecomesReady(address string) {
	t.Eventually(20, "a probe of "+address, func() (bool, string) { return probe(address) })
}

// NeedsComponents skips where the images have no component of Rust's.
func (t *T) NeedsComponents() {
	if !t.components {
		t.Skip("this machine's Rust has no wasm32-wasip2")
	}
}

func init() {
	only("wasm", "a server is probed over the pod's address", func(t *T) {
		p := t.Pod()
		c := p.Run("server", t.image("wasm"), []string{"/http.wat"})
		t.BecomesReady("http://" + p.IP() + ":8080/ready")
		t.BecomesReady(fmt.Sprintf("http://127.0.0.1:%d/ready", p.Forward(8080)))
		side := p.Sleeper()
		t.Contains(side.ExecSh("(printf 'GET /ready HTTP/1.1\\r\\nHost: pod\\r\\n\\r\\n'; sleep 1) | nc 127.0.0.1 8080"), " 202 ", "answer to a sidecar")
		c.Stop(30)
		t.Equal(c.Status().ExitCode, 0, "exit code after a drain")
		good, words := probe("http://" + p.IP() + ":8080/ready")
		t.Check(!good, "a stopped server answers: %s", words)
		p.Run("server", t.image("wasm"), []string{"/http.wat"}, attempt(1))
		t.BecomesReady("http://" + p.IP() + ":8080/ready") // the same address and port
	}).smoke = true
	only("wasm", "a server's pages, port and limits", func(t *T) {
		t.NeedsComponents()
		p := t.Pod()
		c := p.Run("server", t.image("wasm"), []string{"/http.wasm"}, args("word"), withEnv("WASMTIME_HTTP_PROXY_SOCKET_ADDR", "0.0.0.0:9090"),
			resources(&rt.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 96 * mib}),
			security(func(s secure) {
				s.RunAsUser, s.ReadonlyRootfs, s.NoNewPrivs = &rt.Int64Value{Value: 1000}, true, true
				s.Capabilities = &rt.Capability{DropCapabilities: []string{"ALL"}}
				s.Seccomp = &rt.SecurityProfile{ProfileType: rt.SecurityProfile_RuntimeDefault}
			}))
		t.Equal(t.Get("http://"+p.IP()+":9090/hello"), "hello from a component\n", "the page, from outside")
		t.Equal(p.Sleeper().Exec("wget", "-qO-", "http://127.0.0.1:9090/args"), "/http.wasm\nword", "a page, from a sidecar")
		t.Equal(t.Pod().Sleeper().Exec("wget", "-qO-", "http://"+p.IP()+":9090/hello"), "hello from a component", "the page, from another pod")
		resized(t, c)
		t.Equal(t.Get("http://"+p.IP()+":9090/hello"), "hello from a component\n", "the page after a resize")
	})
	only("wasm", "a server behind a port of the host", func(t *T) {
		port := freePort(t)
		p := t.Pod(func(c *rt.PodSandboxConfig) {
			c.PortMappings = []*rt.PortMapping{{ContainerPort: 8080, HostPort: int32(port)}}
		})
		p.Run("server", t.image("wasm"), []string{"/http.wat"})
		t.BecomesReady(fmt.Sprintf("http://127.0.0.1:%d/", port))
	})
	only("wasm", "a handler that traps harms no other request", func(t *T) {
		t.NeedsComponents()
		p := t.Pod()
		c := p.Run("server", t.image("wasm"), []string{"/http.wasm"})
		t.BecomesReady("http://" + p.IP() + ":8080/hello")
		pid := c.Pid()
		good, words := probe("http://" + p.IP() + ":8080/trap")
		t.Check(!good, "a handler that traps answers %s", words)
		t.BecomesReady("http://" + p.IP() + ":8080/hello") // the next request has an instance of its own
		t.Equal(c.Pid(), pid, "the server's process")
	})
	only("wasm", "exports are called by exec", func(t *T) {
		c := t.Pod().Wasm("c")
		t.Equal(c.Exec("/calls.wat#add", "40", "2"), "42", "numbers")
		t.Equal(c.Exec("/calls.wat#greet", "you"), "hello you", "strings")
		t.Equal(c.Exec("/calls.wat#thunk"), "", "no value")
		stderr := c.ExecFails("/calls.wat#divide", "1", "0")
		t.Contains(stderr, "division by zero", "the error of an export")
		_, _, code, err := c.Try("/calls.wat#thunk-trap")
		t.Must(err, "exec of an export that traps")
		t.Equal(code, 134, "code of a trap")
		_, stderr, code, err = c.Try("/calls.wat#nothing")
		t.Check(err != nil || code != 0, "an export that is not there: code %d", code)
		t.Contains(stderr+fmt.Sprint(err), "nothing", "its error")
		s := c.StreamExec(false, false, "/calls.wat#greet", "stream")
		t.Equal(codeOf(s.Wait(20)), 0, "code of a streamed call")
		t.Equal(s.out.String(), "hello stream\n", "its output")
		t.Equal(c.State(), "RUNNING", "the container")
	}).smoke = true
	only("wasm", "an export is the container's program", func(t *T) {
		p := t.Pod()
		c := p.Run("c", t.image("wasm"), []string{"/calls.wat#greet"}, args("pod"))
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Equal(c.Log("stdout"), "hello pod\n", "log")
	})
	only("wasm", "exec probes by the dozen", func(t *T) {
		c := t.Pod().Wasm("c")
		results := make(chan string, 24)
		for i := 0; i < 24; i++ {
			go func() {
				out, _, code, err := c.Try("/calls.wat#add", fmt.Sprint(i), "1")
				if err != nil || code != 0 || strings.TrimSpace(out) != fmt.Sprint(i+1) {
					results <- fmt.Sprintf("call %d: %q, code %d, %v", i, out, code, err)
					return
				}
				results <- ""
			}()
		}
		for i := 0; i < 24; i++ {
			text := <-results
			t.Check(text == "", "%s", text)
		}
	})
}
