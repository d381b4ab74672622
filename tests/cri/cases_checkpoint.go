// SPDX-License-Identifier: Apache-2.0

// Checkpoints as kubelet asks for them (ContainerCheckpoint): of a running container that goes on.
package main

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"strings"

	rt "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// namesIn a tar file.
func namesIn(t *T, path string) string {
	file, err := os.Open(path)
	t.Must(err, "open the checkpoint")
	defer file.Close()
	var names []string
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return strings.Join(names, " ")
		}
		t.Must(err, "read the checkpoint")
		names = append(names, header.Name)
	}
}

func init() {
	both("checkpoint", "of a container that goes on", func(t *T) {
		t.NeedsV2("knows no checkpoints")
		if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
			t.Skip("criu check: %v: %s", err, tail(string(out), 200))
		}
		c := t.Pod().Sh("c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done")
		c.LogHas(20, "line 3")
		path := t.Volume(nil) + "/checkpoint.tar"
		err := t.runtime.CheckpointContainer(t.ctx, &rt.CheckpointContainerRequest{ContainerId: c.ID, Location: path})
		t.Must(err, "checkpoint")
		names := namesIn(t, path)
		for _, want := range []string{"checkpoint/pages-1.img", "checkpoint/inventory.img", "config.dump", "spec.dump", "container.log"} {
			t.Contains(names, want, "files of the checkpoint")
		}
		seen := len(c.LogLines())
		t.Eventually(10, "it goes on", func() (bool, string) { return len(c.LogLines()) > seen+3, "" })
		t.Equal(c.Exec("echo", "alive"), "alive", "exec afterwards")
	})
	only("checkpoint", "of a guest is refused and harms it not", func(t *T) {
		t.NeedsV2("knows no checkpoints")
		if _, err := exec.LookPath("criu"); err != nil {
			t.Skip("containerd asks for criu first, which is not installed")
		}
		w := t.Pod().Wasm("wasm")
		w.LogHas(20, "tick 1")
		err := t.runtime.CheckpointContainer(t.ctx, &rt.CheckpointContainerRequest{ContainerId: w.ID, Location: t.Volume(nil) + "/checkpoint.tar"})
		t.Refused(err, "checkpoint of a guest")
		t.Contains(err.Error(), "a wasm guest cannot be checkpointed", "the error")
		t.Equal(w.State(), "RUNNING", "the guest")
		w.LogHas(20, "tick 3")
	})
}
