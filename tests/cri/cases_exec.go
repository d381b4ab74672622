// SPDX-License-Identifier: Apache-2.0

// Exec, synchronous and streaming, attach, port forwarding. Not here: what the log has of it (cases_logs.go).
package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/tools/remotecommand"
	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func codeOf(err error) int {
	var exit interface{ ExitStatus() int }
	if errors.As(err, &exit) {
		return exit.ExitStatus()
	}
	if err != nil {
		return -1
	}
	return 0
}

func init() {
	both("exec", "output, errors and code", func(t *T) {
		c := t.Pod().Sleeper()
		out, stderr, code, err := c.Try("sh", "-c", "echo out; echo err >&2; exit 5")
		t.Must(err, "exec")
		t.Equal(fmt.Sprint(out, stderr, code), "out\nerr\n5", "output, errors, code")
	})
	both("exec", "ended by its timeout", func(t *T) {
		c := t.Pod().Sleeper()
		begun := time.Now()
		_, _, err := t.runtime.ExecSync(t.ctx, c.ID, []string{"sh", "-c", "sleep 77"}, 2*time.Second)
		t.Refused(err, "an exec beyond its time")
		t.Contains(strings.ToLower(err.Error()), "time", "the error")
		t.Check(time.Since(begun) < 20*time.Second, "it took %s", time.Since(begun))
		t.Lacks(c.Exec("ps"), "sleep 77", "processes")
	})
	both("exec", "a missing program", func(t *T) {
		c := t.Pod().Sleeper()
		_, _, code, err := c.Try("/no/such/program")
		t.Check(err != nil || code == 127, "no error, code %d", code)
		if err != nil {
			t.Contains(err.Error(), "/no/such/program", "the error")
		}
		t.Equal(c.State(), "RUNNING", "the container")
	})
	both("exec", "in an ended container is refused", func(t *T) {
		c := t.Pod().Sh("c", "exit 0")
		c.Ended(20)
		_, _, _, err := c.Try("true")
		t.Refused(err, "exec in an ended container")
	})
	both("exec", "large output arrives whole", func(t *T) {
		c := t.Pod().Sleeper()
		out, _, code, err := c.Try("sh", "-c", "i=0; while [ $i -lt 200 ]; do head -c 5000 /dev/zero | tr '\\0' x; i=$((i+1)); done")
		t.Must(err, "exec")
		t.Equal(fmt.Sprint(len(out), code), "1000000 0", "bytes and code")
	})
	both("exec", "user, directory and environment of the container", func(t *T) {
		c := t.Pod().Sleeper(asUser(1000), withEnv("WORD", "given"), func(c *rt.ContainerConfig) { c.WorkingDir = "/var" })
		t.Equal(c.ExecSh("id -u; pwd; echo $WORD"), "1000\n/var\ngiven", "output")
	})
	both("exec", "what it leaves behind does not hold it up", func(t *T) {
		t.Needs(1, 7, "cannot be told how long to drain")
		c := t.Pod().Sleeper()
		begun := time.Now()
		c.Try("sh", "-c", "sleep 100 & echo out")
		t.Check(time.Since(begun) < 25*time.Second, "it took %s", time.Since(begun))
		t.Equal(c.Exec("echo", "next"), "next", "the next exec")
	})
	both("exec", "twenty side by side", func(t *T) {
		c := t.Pod().Sleeper()
		results := make(chan string, 20)
		for i := 0; i < 20; i++ {
			go func() {
				out, _, code, err := c.Try("echo", fmt.Sprint("word", i))
				if err != nil || code != 0 || out != fmt.Sprint("word", i, "\n") {
					results <- fmt.Sprintf("exec %d: %q, code %d, %v", i, out, code, err)
					return
				}
				results <- ""
			}()
		}
		for i := 0; i < 20; i++ {
			text := <-results
			t.Check(text == "", "%s", text)
		}
	})
	both("exec", "stream with stdin to its end", func(t *T) {
		s := t.Pod().Sleeper().StreamExec(true, false, "sh", "-c", "cat; echo done >&2; exit 4")
		s.Type("one\ntwo\n")
		s.Has(20, "two")
		s.stdin.Close()
		t.Equal(codeOf(s.Wait(20)), 4, "exit code")
		t.Equal(s.out.String()+s.errs.String(), "one\ntwo\ndone\n", "output")
	})
	both("exec", "stream of a megabyte both ways", func(t *T) {
		s := t.Pod().Sleeper().StreamExec(true, false, "cat")
		line := strings.Repeat("y", 1023) + "\n"
		go func() {
			for i := 0; i < 1024; i++ {
				s.stdin.Write([]byte(line))
			}
			s.stdin.Close()
		}()
		t.Equal(codeOf(s.Wait(60)), 0, "exit code")
		t.Check(s.out.String() == strings.Repeat(line, 1024), "%d bytes came back", len(s.out.String()))
	})
	both("exec", "on a terminal that is resized", func(t *T) {
		s := t.Pod().Sleeper().StreamExec(true, true, "sh")
		s.sizes <- remotecommand.TerminalSize{Width: 101, Height: 37}
		s.Type("tty; stty size\n")
		s.Has(20, "/dev/pts/")
		t.Eventually(10, "the size", func() (bool, string) {
			s.Type("stty size\n")
			time.Sleep(200 * time.Millisecond)
			return strings.Contains(s.out.String(), "37 101"), s.out.String()
		})
		s.sizes <- remotecommand.TerminalSize{Width: 55, Height: 22}
		t.Eventually(10, "the new size", func() (bool, string) {
			s.Type("stty size\n")
			time.Sleep(200 * time.Millisecond)
			return strings.Contains(s.out.String(), "22 55"), s.out.String()
		})
		s.Type("exit 6\n")
		t.Equal(codeOf(s.Wait(20)), 6, "exit code")
	})
	both("exec", "a terminal's interrupt reaches the program", func(t *T) {
		s := t.Pod().Sleeper().StreamExec(true, true, "sh", "-c", "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done")
		s.Has(20, "up")
		s.Type("\x03")
		t.Equal(codeOf(s.Wait(20)), 9, "exit code")
		t.Contains(s.out.String(), "caught", "output")
	})
	both("attach", "types to the container and reads it", func(t *T) {
		c := t.Pod().Run("c", t.image("native"), []string{"sh", "-c", "while read w; do echo got $w; done; echo end"}, withStdin(false))
		s := c.Attach(true, false)
		s.Type("hello\n")
		s.Has(20, "got hello")
		c.LogHas(10, "got hello")
		s.Leave()
		s = c.Attach(true, false) // a second one later
		s.Type("again\n")
		s.Has(20, "got again")
		t.Equal(c.State(), "RUNNING", "after a client left")
	})
	both("attach", "stdin once ends with its client", func(t *T) {
		c := t.Pod().Run("c", t.image("native"), []string{"sh", "-c", "cat; echo end"}, withStdin(false),
			func(c *rt.ContainerConfig) { c.StdinOnce = true })
		s := c.Attach(true, false)
		s.Type("text\n")
		s.Has(20, "text")
		s.stdin.Close()
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		c.LogHas(10, "end")
	})
	both("attach", "a terminal", func(t *T) {
		c := t.Pod().Run("c", t.image("native"), []string{"sh"}, withStdin(true))
		s := c.Attach(true, true)
		s.sizes <- remotecommand.TerminalSize{Width: 91, Height: 33}
		t.Eventually(15, "the size", func() (bool, string) {
			s.Type("stty size\n")
			time.Sleep(200 * time.Millisecond)
			return strings.Contains(s.out.String(), "33 91"), s.out.String()
		})
		s.Type("exit 3\n")
		t.Equal(c.Ended(20).ExitCode, 3, "exit code")
	})
	both("attach", "two clients read the same", func(t *T) {
		c := t.Pod().Run("c", t.image("native"), []string{"sh", "-c", "while read w; do echo got $w; done"}, withStdin(false))
		one, two := c.Attach(true, false), c.Attach(false, false)
		time.Sleep(300 * time.Millisecond)
		one.Type("both\n")
		one.Has(20, "got both")
		two.Has(20, "got both")
	})
	both("attach", "a client that does not read holds nothing up", func(t *T) {
		// 4 MB with an attached client that leaves in between: the log has them all.
		c := t.Pod().Run("c", t.image("native"), []string{"sh", "-c", "read w; i=0; while [ $i -lt 4000 ]; do printf '%01023d\\n' $i; i=$((i+1)); done"}, withStdin(false))
		s := c.Attach(true, false)
		s.Type("go\n")
		s.Has(20, "0001")
		s.Leave()
		t.Equal(c.Ended(60).ExitCode, 0, "exit code")
		t.Eventually(20, "4000 lines", func() (bool, string) {
			n := len(c.LogLines())
			return n == 4000, fmt.Sprint(n)
		})
	})
	both("port-forward", "to a server in the pod", func(t *T) { forwarded(t) })
	both("port-forward", "in the host's network", func(t *T) { forwarded(t, hostNetwork) })
}

func forwarded(t *T, changes ...podChange) {
	p := t.Pod(changes...)
	port := freePort(t)
	p.Sh("server", fmt.Sprintf("mkdir /www; echo a page > /www/index.html; exec busybox httpd -f -p 127.0.0.1:%d -h /www", port))
	var local int
	t.Eventually(20, "the server listens", func() (bool, string) {
		c := p.Sh("probe", fmt.Sprintf("wget -qO- http://127.0.0.1:%d/", port), attempt(uint32(time.Now().UnixNano())))
		defer c.Remove()
		return c.Ended(10).ExitCode == 0, ""
	})
	local = p.Forward(port)
	for i := 0; i < 3; i++ {
		t.Equal(t.Get(fmt.Sprintf("http://127.0.0.1:%d/", local)), "a page\n", "the page")
	}
}
