// SPDX-License-Identifier: Apache-2.0

// Command cri does to a real containerd, through the kubelet's own client, what kubelet and crictl do:
// every case runs under runc's shim and under ours, and a row fails when ours fails what runc's passes.
// What fails under both is a verdict of its own: the case or the machine is wrong, and somebody must look.
// Here: flags, the order of the run, the table. Not here: how a case works (harness.go), what is asked
// (cases_*.go). It runs inside tests/support/inroot.sh; tests/cri/run.sh prepares and starts it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

type options struct {
	lab, suite, results, table, cgroup string
	words                              string
	parallel                           int
	smoke                              bool
	components                         bool // the images have those that Rust builds
}

// outcome of one case under one handler.
type outcome struct {
	word    string // passed, failed, skipped
	text    string
	seconds float64
}

type row struct {
	suite, name string
	by          map[string]outcome
}

func main() {
	var o options
	flag.StringVar(&o.lab, "lab", "/mnt/lab", "directory with images, prefix and deploy; containerd's root goes there")
	flag.StringVar(&o.suite, "suite", "cri", "the suite's name in the results")
	flag.StringVar(&o.results, "results", "", "rows are appended to this file")
	flag.StringVar(&o.table, "table", "", "both columns are written to this file")
	flag.StringVar(&o.cgroup, "cgroup", "amphora-cri", "the cgroup all pods are beneath")
	flag.StringVar(&o.words, "words", "", "only cases whose names contain one of these (comma)")
	flag.IntVar(&o.parallel, "parallel", 4, "cases side by side")
	flag.BoolVar(&o.smoke, "smoke", false, "only the cases marked as smoke, under ours")
	flag.BoolVar(&o.components, "components", false, "the wasm image has /http.wasm")
	flag.Parse()
	klog.SetLogger(logr.Discard()) // the client logs every refusal, and many are asked for
	env, err := newEnv(&o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cri: cannot set up:", err)
		os.Exit(2)
	}
	rows := runAll(env, &o)
	env.daemon.stop()
	removeCgroups(o.cgroup)
	failed := report(&o, rows)
	if o.table != "" {
		writeTable(&o, env, rows)
	}
	if failed {
		os.Exit(1)
	}
}

func selected(o *options, c *testCase) bool {
	if o.smoke && !c.smoke {
		return false
	}
	if o.words == "" {
		return true
	}
	for _, word := range strings.Split(o.words, ",") {
		if strings.Contains(c.area+"."+c.name, word) {
			return true
		}
	}
	return false
}

func handlersOf(o *options, c *testCase) []string {
	switch {
	case c.handlers != nil:
		return c.handlers
	case o.smoke:
		return []string{ours}
	}
	return []string{runcs, ours}
}

// runAll: cases side by side, and those that want the daemon for themselves afterwards, one by one.
func runAll(env *environment, o *options) []*row {
	var rows []*row
	var alone []func()
	slots := make(chan struct{}, o.parallel)
	var all sync.WaitGroup
	var lock sync.Mutex
	for _, c := range cases {
		if !selected(o, c) {
			continue
		}
		r := &row{suite: o.suite, name: c.area + "." + c.name, by: map[string]outcome{}}
		rows = append(rows, r)
		for _, handler := range handlersOf(o, c) {
			job := func() {
				result := env.runCase(c, handler)
				lock.Lock()
				r.by[column(handler)] = result
				lock.Unlock()
				fmt.Printf("%-4s %s %s under %s (%.1f s)%s\n", map[string]string{"passed": "ok", "failed": "FAIL", "skipped": "skip"}[result.word],
					o.suite, r.name, column(handler), result.seconds, orNothing(": ", result.text))
			}
			// 1.7 makes one snapshot for the users of all pods, and two that make it at once fail.
			if c.alone || (c.area == "userns" && env.major < 2) {
				alone = append(alone, job)
				continue
			}
			all.Add(1)
			slots <- struct{}{}
			go func() {
				defer all.Done()
				job()
				<-slots
			}()
		}
	}
	all.Wait()
	for _, job := range alone {
		job()
	}
	rows = append(rows, leftoverRow(env, o))
	return rows
}

func orNothing(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// column: which column of the table a handler's outcome belongs to.
func column(handler string) string {
	if handler == runcs {
		return "runc"
	}
	return "amphora"
}

// failsUnderBoth is count.py's word, too.
const failsUnderBoth = "fails under both"

// verdict of a row: ours must pass what runc's passes.
func (r *row) verdict() (string, string) {
	mine, other := r.by["amphora"], r.by["runc"]
	_, compared := r.by["runc"]
	switch {
	case mine.word == "failed" && compared && other.word == "failed":
		return failsUnderBoth, "ours: " + mine.text + "; runc's: " + other.text
	case mine.word == "failed":
		return "failed", mine.text
	case mine.word == "skipped" && compared && other.word == "passed" && !strings.HasPrefix(mine.text, byContainerd):
		return "failed", "passes under runc's shim, skipped under ours: " + mine.text
	case mine.word == "skipped":
		return "skipped", mine.text
	}
	return "passed", ""
}

func report(o *options, rows []*row) bool {
	failed := false
	var out *os.File
	if o.results != "" {
		var err error
		if out, err = os.OpenFile(o.results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "cri:", err)
			return true
		}
		defer out.Close()
	}
	for _, r := range rows {
		word, text := r.verdict()
		failed = failed || word == "failed"
		if word == failsUnderBoth {
			fmt.Printf("%s: %s %s: %s\n", word, r.suite, r.name, text)
		}
		line, _ := json.Marshal(map[string]any{"suite": r.suite, "case": r.name, "result": word, "text": text,
			"seconds": r.by["amphora"].seconds})
		if out != nil {
			fmt.Fprintf(out, "%s\n", line)
		}
	}
	return failed
}

// writeTable: both columns, as docs/conformance.md shows them.
func writeTable(o *options, env *environment, rows []*row) {
	type sums struct{ runcPassed, runcRan, oursPassed, oursRan int }
	by := map[string]*sums{}
	var areas []string
	both := 0
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s, %s\n", o.suite, env.version, time.Now().UTC().Format("2006-01-02"))
	for _, r := range rows {
		area := strings.SplitN(r.name, ".", 2)[0]
		if by[area] == nil {
			by[area] = &sums{}
			areas = append(areas, area)
		}
		for col, result := range r.by {
			ran, passed := &by[area].runcRan, &by[area].runcPassed
			if col == "amphora" {
				ran, passed = &by[area].oursRan, &by[area].oursPassed
			}
			if result.word != "skipped" {
				*ran++
			}
			if result.word == "passed" {
				*passed++
			}
		}
		word, reason := r.verdict()
		if word == failsUnderBoth {
			both++
		}
		fmt.Fprintf(&text, "%-64s runc %-8s amphora %-8s %s\n", r.name, r.by["runc"].word, r.by["amphora"].word, reason)
	}
	sort.Strings(areas)
	fmt.Fprintf(&text, "\n| area | runc passed / ran | amphora passed / ran |\n| --- | --- | --- |\n")
	var total sums
	for _, area := range areas {
		s := by[area]
		fmt.Fprintf(&text, "| %s | %d / %d | %d / %d |\n", area, s.runcPassed, s.runcRan, s.oursPassed, s.oursRan)
		total.runcPassed, total.runcRan = total.runcPassed+s.runcPassed, total.runcRan+s.runcRan
		total.oursPassed, total.oursRan = total.oursPassed+s.oursPassed, total.oursRan+s.oursRan
	}
	fmt.Fprintf(&text, "| all | %d / %d | %d / %d |\n", total.runcPassed, total.runcRan, total.oursPassed, total.oursRan)
	fmt.Fprintf(&text, "%s: %d\n", failsUnderBoth, both)
	if err := os.WriteFile(o.table, []byte(text.String()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
	}
}
