// SPDX-License-Identifier: Apache-2.0

// A registry on loopback, as much of one as containerd's puller asks: manifests by tag or digest, and
// blobs, from OCI layouts in tar files. Nothing can be pushed.
package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

type registry struct {
	address   string
	blobs     map[string][]byte     // by digest
	types     map[string]string     // media types of manifests, by digest
	manifests map[string]descriptor // by NAME:TAG
}

func serveRegistry(dir string) (*registry, error) {
	r := &registry{blobs: map[string][]byte{}, types: map[string]string{}, manifests: map[string]descriptor{}}
	tars, err := filepath.Glob(dir + "/*.tar")
	if err != nil || len(tars) == 0 {
		return nil, fmt.Errorf("no images in %s", dir)
	}
	for _, path := range tars {
		if err := r.load(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.address = listener.Addr().String()
	go http.Serve(listener, r)
	return r, nil
}

func (r *registry) load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var index struct{ Manifests []descriptor }
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		body, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		if header.Name == "index.json" {
			if err := json.Unmarshal(body, &index); err != nil {
				return err
			}
		} else if digest, found := strings.CutPrefix(header.Name, "blobs/sha256/"); found {
			r.blobs["sha256:"+digest] = body
		}
	}
	for _, m := range index.Manifests {
		r.manifests[m.Annotations["io.containerd.image.name"]] = m
		r.types[m.Digest] = m.MediaType
	}
	return nil
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	if path == "" {
		return
	}
	parts := strings.Split(path, "/")
	if len(parts) < 3 {
		http.NotFound(w, q)
		return
	}
	name, kind, reference := strings.Join(parts[:len(parts)-2], "/"), parts[len(parts)-2], parts[len(parts)-1]
	digest := reference
	if kind == "manifests" && !strings.HasPrefix(reference, "sha256:") {
		digest = r.manifests[name+":"+reference].Digest
	}
	body, found := r.blobs[digest]
	if !found {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	if kind == "manifests" {
		w.Header().Set("Content-Type", r.types[digest])
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if q.Method != http.MethodHead {
		w.Write(body)
	}
}
