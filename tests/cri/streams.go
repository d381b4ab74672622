// SPDX-License-Identifier: Apache-2.0

// Exec, attach and port forwarding as streams: CRI gives an address, kubelet's streaming client speaks
// SPDY to it. Not here: ExecSync (pods.go).
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// output collects what a stream brings, and can be watched meanwhile.
type output struct {
	lock sync.Mutex
	body bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.body.Write(data)
}

func (o *output) String() string {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.body.String()
}

// stream is one exec or attach under way.
type stream struct {
	t           *T
	out, errs   output
	stdin       *io.PipeWriter
	sizes       chan remotecommand.TerminalSize
	done        chan error
	cancelAll   context.CancelFunc
	description string
}

func (s *stream) Next() *remotecommand.TerminalSize {
	size, open := <-s.sizes
	if !open {
		return nil
	}
	return &size
}

func (t *T) stream(address, what string, stdin, tty bool) *stream {
	u, err := url.Parse(address)
	t.Must(err, what)
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, "POST", u)
	t.Must(err, what)
	ctx, cancel := context.WithCancel(t.ctx)
	s := &stream{t: t, sizes: make(chan remotecommand.TerminalSize, 4), done: make(chan error, 1), cancelAll: cancel, description: what}
	options := remotecommand.StreamOptions{Stdout: &s.out, Tty: tty}
	if !tty {
		options.Stderr = &s.errs
	} else {
		options.TerminalSizeQueue = s
	}
	if stdin {
		reader, writer := io.Pipe()
		options.Stdin, s.stdin = reader, writer
	}
	go func() { s.done <- executor.StreamWithContext(ctx, options) }()
	t.Cleanup(func() {
		cancel()
		if s.stdin != nil {
			s.stdin.Close()
		}
	})
	return s
}

// StreamExec begins an exec; Attach joins the container's own stdio.
func (c *Container) StreamExec(stdin, tty bool, words ...string) *stream {
	r, err := c.t.runtime.Exec(c.t.ctx, &rt.ExecRequest{ContainerId: c.ID, Cmd: words, Stdin: stdin, Stdout: true, Stderr: !tty, Tty: tty})
	c.t.Must(err, "exec")
	return c.t.stream(r.Url, "exec "+strings.Join(words, " "), stdin, tty)
}

func (c *Container) Attach(stdin, tty bool) *stream {
	r, err := c.t.runtime.Attach(c.t.ctx, &rt.AttachRequest{ContainerId: c.ID, Stdin: stdin, Stdout: true, Stderr: !tty, Tty: tty})
	c.t.Must(err, "attach")
	return c.t.stream(r.Url, "attach", stdin, tty)
}

func (s *stream) Type(text string) {
	_, err := io.WriteString(s.stdin, text)
	s.t.Must(err, s.description+": type")
}

func (s *stream) Has(seconds int, part string) {
	s.t.Eventually(seconds, fmt.Sprintf("%s: output has %q", s.description, part), func() (bool, string) {
		text := s.out.String()
		return strings.Contains(text, part), text
	})
}

// Wait for the end; the stream's error is given back.
func (s *stream) Wait(seconds int) error {
	select {
	case err := <-s.done:
		return err
	case <-time.After(time.Duration(seconds) * time.Second):
		s.t.Fail("%s has not ended within %d s; output %q", s.description, seconds, tail(s.out.String(), 300))
		return nil
	}
}

func (s *stream) Leave() {
	s.cancelAll()
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
	}
}

// Forward opens a port of the pod here and gives the local port.
func (p *Pod) Forward(port int) int {
	t := p.t
	r, err := t.runtime.PortForward(t.ctx, &rt.PortForwardRequest{PodSandboxId: p.ID, Port: []int32{int32(port)}})
	t.Must(err, "port-forward")
	u, err := url.Parse(r.Url)
	t.Must(err, "port-forward")
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	t.Must(err, "port-forward")
	stop, ready, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u),
		[]string{"0:" + strconv.Itoa(port)}, stop, ready, io.Discard, io.Discard)
	t.Must(err, "port-forward")
	go func() { done <- forwarder.ForwardPorts() }()
	t.Cleanup(func() { close(stop) })
	select {
	case <-ready:
	case err := <-done:
		t.Fail("port-forward: %v", err)
	case <-time.After(20 * time.Second):
		t.Fail("port-forward is not ready after 20 s")
	}
	ports, err := forwarder.GetPorts()
	t.Must(err, "port-forward")
	return int(ports[0].Local)
}

// Get fetches a page, again until somebody listens.
func (t *T) Get(address string) string {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var body string
	t.Eventually(20, "GET "+address, func() (bool, string) {
		r, err := client.Get(address)
		if err != nil {
			return false, err.Error()
		}
		defer r.Body.Close()
		data, err := io.ReadAll(r.Body)
		body = string(data)
		return err == nil && r.StatusCode == 200, r.Status
	})
	return body
}
