// SPDX-License-Identifier: Apache-2.0

// The pod's network as the CNI plugins make it: addresses, loopback, host ports, one pod to another.
package main

import (
	"fmt"
	"net"
	"strings"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func freePort(t *T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	t.Must(err, "a free port")
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// webServer runs busybox' server in the pod, with one page.
func webServer(p *Pod, page string) *Container {
	return p.Sh("web", fmt.Sprintf("mkdir /www; echo %s > /www/index.html; exec busybox httpd -f -p 80 -h /www", page))
}

func init() {
	both("network", "a pod has its address", func(t *T) {
		p := t.Pod()
		t.Contains(p.Sleeper().Exec("ip", "addr", "show", "eth0"), p.IP()+"/16", "the interface")
		t.Contains(p.IP(), "10.88.", "address")
		t.Equal(t.Pod(hostNetwork).IP(), "", "address of a pod in the host's network")
	})
	both("network", "loopback is up", func(t *T) {
		t.Contains(t.Pod().Sleeper().Exec("ip", "addr", "show", "lo"), "127.0.0.1/8", "lo")
	})
	both("network", "served to the host and to another pod", func(t *T) {
		p := t.Pod()
		webServer(p, "hello")
		t.Equal(t.Get("http://"+p.IP()+"/"), "hello\n", "from the host")
		t.Equal(t.Pod().Sleeper().Exec("wget", "-qO-", "http://"+p.IP()+"/"), "hello", "from another pod")
		t.Equal(p.Sleeper().Exec("wget", "-qO-", "http://127.0.0.1/"), "hello", "from another container of the pod")
	})
	both("network", "a port of the host", func(t *T) {
		port := freePort(t)
		p := t.Pod(func(c *rt.PodSandboxConfig) {
			c.PortMappings = []*rt.PortMapping{{ContainerPort: 80, HostPort: int32(port)}}
		})
		webServer(p, "mapped")
		t.Equal(t.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)), "mapped\n", "the page")
	})
	both("network", "a port that is none of the host's", func(t *T) {
		p := t.Pod(func(c *rt.PodSandboxConfig) { c.PortMappings = []*rt.PortMapping{{ContainerPort: 80}} })
		webServer(p, "unmapped")
		t.Equal(t.Get("http://"+p.IP()+"/"), "unmapped\n", "the page")
	})
	both("network", "lives as long as the pod", func(t *T) {
		p := t.Pod()
		ip := p.IP()
		c := webServer(p, "one")
		t.Equal(t.Get("http://"+ip+"/"), "one\n", "first container")
		c.Stop(0)
		p.Sh("web", "mkdir /www; echo two > /www/index.html; exec busybox httpd -f -p 80 -h /www", attempt(1))
		t.Equal(t.Get("http://"+ip+"/"), "two\n", "second container, same address")
		t.Must(t.runtime.StopPodSandbox(t.ctx, p.ID), "stop")
		conn, err := net.Dial("tcp", ip+":80")
		if err == nil {
			conn.Close()
		}
		t.Refused(err, "connect to a stopped pod")
		t.Check(!strings.Contains(fmt.Sprint(mountPoints()), p.ID), "mounts of the pod are left")
	})
}
