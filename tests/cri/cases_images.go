// SPDX-License-Identifier: Apache-2.0

// Images whose module is a layer of its own, as kubelet pulls and runs them: an OCI image, and the CNCF's artifact,
// whose config has no command, so that the pod gives one. docs/images.md has the kinds.
package main

// Images that have them, and so none of containerd 1.6's.
var wasmLayers = []string{"layered:1", "artifact:1", "packed:1", "index:1", "linked:1", "composed:1"}

func init() {
	only("images", "wasm layers and an artifact beside native containers", func(t *T) {
		t.Needs(1, 7, "images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
		p := t.Pod()
		side := p.Sh("side", "sleep 1000")
		layered := p.Run("layered", t.image("layered"), nil, args("daemon"))
		layered.LogHas(20, "tick 1")
		artifact := p.Run("artifact", t.image("artifact"), []string{"/app.wasm"}, args("daemon"))
		artifact.LogHas(20, "tick 1")
		file := p.Wasm("file")
		file.LogHas(20, "tick 1")
		for _, c := range []*Container{layered, artifact, file} {
			t.Equal(shimOf(t, c), shimOf(t, side), "one shim for all")
		}
		t.Equal(artifact.Exec("/app.wasm", "echo", "again"), "again", "exec of the module that is a layer")
	}).smoke = true
	only("images", "a wasm layer's entrypoint, environment and exit code", func(t *T) {
		t.Needs(1, 7, "images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
		p := t.Pod()
		c := p.Run("env", t.image("layered"), nil, args("env"))
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Contains(c.Log("stdout"), "FROM_IMAGE=yes", "environment of the image")
		t.Equal(p.Run("code", t.image("layered"), nil, args("exit", "42")).Ended(20).ExitCode, 42, "exit code")
		t.Equal(p.Run("code2", t.image("artifact"), []string{"/app.wasm"}, args("exit", "43")).Ended(20).ExitCode, 43, "exit code of an artifact")
	})
	only("images", "a compressed layer, and a manifest behind an index", func(t *T) {
		t.Needs(1, 7, "images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
		p := t.Pod()
		t.Equal(p.Run("packed", t.image("packed"), nil, args("exit", "42")).Ended(20).ExitCode, 42, "exit code")
		t.Equal(p.Run("index", t.image("index"), nil, args("exit", "43")).Ended(20).ExitCode, 43, "exit code of the entry for the machine's platform")
	})
	only("images", "layers that import from each other", func(t *T) {
		t.Needs(1, 7, "images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
		p := t.Pod()
		c := p.Run("linked", t.image("linked"), nil, args("add", "20", "22"))
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Contains(c.Log("stdout"), "math: initialized 1 times\n42\n", "a module with its libraries")
		if !t.components {
			return
		}
		c = p.Run("composed", t.image("composed"), nil, args("world"))
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Contains(c.Log("stdout"), "hello WORLD\n42\n", "components")
	}).smoke = true
}
