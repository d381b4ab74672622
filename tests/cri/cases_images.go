// SPDX-License-Identifier: Apache-2.0

// Images whose module is a layer of its own, as kubelet pulls and runs them: an OCI image, and the CNCF's artifact,
// whose config has no command, so that the pod gives one. docs/images.md has the kinds.
package main

func init() {
	only("images", "wasm layers and an artifact beside native containers", func(t *T) {
		t.NeedsV2("images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
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
		t.NeedsV2("images with wasm layers are unpacked from 1.6.25 and 1.7.7 on")
		p := t.Pod()
		c := p.Run("env", t.image("layered"), nil, args("env"))
		t.Equal(c.Ended(20).ExitCode, 0, "exit code")
		t.Contains(c.Log("stdout"), "FROM_IMAGE=yes", "environment of the image")
		t.Equal(p.Run("code", t.image("layered"), nil, args("exit", "42")).Ended(20).ExitCode, 42, "exit code")
		t.Equal(p.Run("code2", t.image("artifact"), []string{"/app.wasm"}, args("exit", "43")).Ended(20).ExitCode, 43, "exit code of an artifact")
	})
}
