// SPDX-License-Identifier: Apache-2.0

// Demo is the program of the container tests once more, in Go (tests/guests/demo.c has all of its commands): what
// a module of a language with a runtime and a scheduler of its own does as an image's layer.
package main

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func list(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		fail(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	sort.Strings(names)
	fmt.Println(strings.Join(names, "\n"))
}

func hog() {
	var kept [][]byte
	for {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}

func number(words []string) int {
	n, err := strconv.Atoi(words[0])
	if err != nil {
		fail(err)
	}
	return n
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "commands: echo args env cat exit sleep write read ls daemon busy hog trap")
		os.Exit(2)
	}
	words := append(os.Args[2:], "")
	switch os.Args[1] {
	case "echo":
		fmt.Println(strings.Join(os.Args[2:], " "))
	case "args":
		fmt.Println(strings.Join(os.Args, "\n"))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fail(err)
		}
	case "exit":
		os.Exit(number(words))
	case "sleep":
		time.Sleep(time.Duration(number(words)) * time.Second)
	case "write":
		if err := os.WriteFile(words[0], []byte(strings.Join(os.Args[3:], " ")+"\n"), 0o644); err != nil {
			fail(err)
		}
	case "read":
		text, err := os.ReadFile(words[0])
		if err != nil {
			fail(err)
		}
		os.Stdout.Write(text)
	case "ls":
		list(words[0])
	case "daemon":
		for n := 1; ; n++ {
			fmt.Println("tick", n)
			time.Sleep(time.Second)
		}
	case "busy":
		for n := uint64(0); ; n++ {
		}
	case "hog":
		hog()
	case "trap":
		var nothing *int
		*nothing = 1
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}
