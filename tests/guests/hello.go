// SPDX-License-Identifier: Apache-2.0
// A big module: 2.6 MB of Go, whose compilation takes seconds. Start-up with a cached artifact must
// not depend on that.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("hello from Go", len(os.Args))
}
