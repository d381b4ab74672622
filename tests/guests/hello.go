// SPDX-License-Identifier: Apache-2.0

// Hello is the realistic module: a runtime, a garbage collector and 2.6 MB. With arguments "read FILE"
// it prints a file, to show where Go looks for relative paths.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "read" {
		text, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(text)
		return
	}
	fmt.Println("hello from go")
	for i, word := range os.Args {
		fmt.Printf("argv[%d] %s\n", i, word)
	}
}
