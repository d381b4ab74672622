// SPDX-License-Identifier: Apache-2.0

// How a case runs: its registration, its handle T with the checks, its end in which every pod it made is
// stopped and removed. Not here: pods and containers themselves (pods.go).
package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	runcs = "runc"
	ours  = "amphora"
	// byDefault asks for no handler: the daemon's default runtime, which is ours.
	byDefault = ""
	// byShim is our handler with `sandboxer = "shim"`.
	byShim = "amphora-sandbox"

	caseLimit = 150 * time.Second
)

type testCase struct {
	area, name string
	run        func(*T)
	handlers   []string // nil: both columns
	smoke      bool
	alone      bool // restarts the daemon: nothing else may run
}

var cases []*testCase

// both: a case that is asked of runc's shim and of ours.
func both(area, name string, run func(*T)) *testCase {
	c := &testCase{area: area, name: name, run: run}
	cases = append(cases, c)
	return c
}

// only: a case for ours alone, under the handlers given (default: the handler "amphora").
func only(area, name string, run func(*T), handlers ...string) *testCase {
	c := both(area, name, run)
	c.handlers = handlers
	if len(handlers) == 0 {
		c.handlers = []string{ours}
	}
	return c
}

type failure struct{ text string }
type skip struct{ text string }

// byContainerd: what containerd itself does not offer to any shim but runc's. Such a skip is no failure
// of ours, even though the other column passes.
const byContainerd = "containerd's doing: "

// T is one run of one case under one handler.
type T struct {
	*environment
	Handler  string
	ctx      context.Context
	name     string
	cleanups []func()
	number   int
}

func (t *T) Fail(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }
func (t *T) Skip(format string, args ...any) { panic(skip{fmt.Sprintf(format, args...)}) }
func (t *T) Check(good bool, format string, args ...any) {
	if !good {
		t.Fail(format, args...)
	}
}

// NeedsFeature skips, as kubelet refuses the pod, where containerd tells no such feature of our handler:
// before 2.2 it asks runc's shim only.
func (t *T) NeedsFeature(what string, get func(*rt.RuntimeHandlerFeatures) bool) {
	s, err := t.runtime.Status(t.ctx, false)
	t.Must(err, "status")
	for _, h := range s.RuntimeHandlers {
		if h.Name == t.Handler && get(h.Features) {
			return
		}
	}
	if t.Handler == ours && t.major == 2 && t.minor < 2 {
		t.Skip(byContainerd+"%s asks only runc's shim for its features (%s)", t.version, what)
	}
	t.Fail("the handler does not tell that it has %s", what)
}

func (t *T) Must(err error, what string) {
	if err != nil {
		t.Fail("%s: %v", what, err)
	}
}
func (t *T) Refused(err error, what string) {
	if err == nil {
		t.Fail("%s succeeded", what)
	}
}
func (t *T) Equal(got, want any, what string) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fail("%s: got %q, want %q", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}
func (t *T) Contains(text, part, what string) {
	if !strings.Contains(text, part) {
		t.Fail("%s: %q is not in %q", what, part, tail(text, 400))
	}
}
func (t *T) Lacks(text, part, what string) {
	if strings.Contains(text, part) {
		t.Fail("%s: %q is in %q", what, part, tail(text, 400))
	}
}

// Eventually waits for the condition; the last words it gave are in the failure.
func (t *T) Eventually(seconds int, what string, condition func() (bool, string)) {
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		good, words := condition()
		if good {
			return
		}
		if time.Now().After(end) {
			t.Fail("not within %d s: %s%s", seconds, what, orNothing("; last: ", tail(words, 300)))
		}
		time.Sleep(30 * time.Millisecond)
	}
}
func (t *T) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

// NeedsV2 skips where containerd is older than 2.0: why says what is missing there.
func (t *T) NeedsV2(why string) { t.Needs(2, 0, why) }

func (t *T) Needs(major, minor int, why string) {
	if t.major < major || (t.major == major && t.minor < minor) {
		t.Skip("containerd %s: %s", t.version, why)
	}
}

func tail(text string, size int) string {
	if len(text) > size {
		return "..." + text[len(text)-size:]
	}
	return text
}

var caseNumber atomic.Int64

func (env *environment) runCase(c *testCase, handler string) (result outcome) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), caseLimit)
	defer cancel()
	t := &T{environment: env, Handler: handler, ctx: ctx,
		name: fmt.Sprintf("%s-%d", strings.ReplaceAll(c.name, " ", "-"), caseNumber.Add(1))}
	if len(t.name) > 40 {
		t.name = t.name[len(t.name)-40:]
	}
	attempt := func(f func()) (word, text string) {
		defer func() {
			switch caught := recover().(type) {
			case nil:
			case failure:
				word, text = "failed", caught.text
			case skip:
				word, text = "skipped", caught.text
			default:
				word, text = "failed", fmt.Sprintf("%v\n%s", caught, debug.Stack())
			}
		}()
		f()
		return "passed", ""
	}
	result.word, result.text = attempt(func() { c.run(t) })
	// Also after a case that used up its time: what it leaves would be the next ones' trouble.
	after, stop := context.WithTimeout(context.Background(), caseLimit)
	defer stop()
	t.ctx = after
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		if word, text := attempt(t.cleanups[i]); word == "failed" && result.word == "passed" {
			result.word, result.text = word, "cleaning up: "+text
		}
	}
	result.seconds = time.Since(begun).Seconds()
	return result
}
