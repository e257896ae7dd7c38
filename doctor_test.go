//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	all := map[string]string{
		"go": `case $2 in CGO_ENABLED) echo 1 ;; *) echo go1.99.1 ;; esac`, "python3": "echo Python 3.11", "npm": "echo 11", "curl": "echo curl 8", "make": "echo make 4",
		"git": "echo git 2", "cmake": "echo cmake version 3.25.1", "tar": "echo tar 1", "df": `printf 'x\nx 1 1 9000000 1 x\n'`, "id": "echo 1000",
	}
	for _, test := range []struct {
		name   string
		env    string
		change func(b *bench)
		ok     bool
		want   []string
	}{
		{"all", "", nil, true, []string{"Everything is there.", "1.99.1", "3.25.1"}},
		{"empty PATH", "PATH=/nonexistent", nil, false, []string{"go 1.", "a C++17 compiler", "cmake 3.14", "git", "make", "curl", "python3 with pip", "npm"}},
		{"Debian", "", func(b *bench) { b.without("cmake", "c++"); b.stand("apt-get", "") }, false,
			[]string{"Install with:\n  sudo apt-get install -y build-essential cmake\n"}},
		{"Debian as root", "", func(b *bench) { b.without("python3"); b.stand("apt-get", ""); b.stand("id", "echo 0") }, false,
			[]string{"Install with:\n  apt-get install -y python3-pip python3-venv\n"}},
		{"macOS", "FAKE_OS=Darwin", func(b *bench) { b.without("cmake", "c++", "go"); b.stand("brew", "") }, false,
			[]string{"xcode-select --install", "Install with:\n  brew install go cmake\n"}},
		{"no packages", "", func(b *bench) { b.without("cmake") }, false, []string{"Missing:\n  cmake 3.14 or later\n"}},
		{"old Go", "", func(b *bench) { b.stand("go", "echo go1.21.0") }, false, []string{"go 1."}},
		{"old CMake", "", func(b *bench) { b.stand("cmake", "echo cmake version 3.9.2") }, false, []string{"cmake 3.14 or later"}},
		{"old compiler", "", func(b *bench) { b.stand("c++", "exit 1") }, false, []string{"a C++17 compiler"}},
		{"no static libraries", "", func(b *bench) {
			b.stand("c++", `case $* in *-print-file-name*) echo libstdc++.a ;; *-fsyntax*) ;; *) echo c++ 13 ;; esac`)
		}, false, []string{"libstdc++.a, the static library"}},
		{"no cgo", "CGO_ENABLED=0", func(b *bench) { b.stand("go", `case $2 in CGO_ENABLED) echo 0 ;; *) echo go1.99.1 ;; esac`) }, false, []string{"CGO_ENABLED=1"}},
		{"full disk", "", func(b *bench) { b.stand("df", `printf 'x\nx 1 1 1024000 1 x\n'`) }, false, []string{"3 GB of disk for", "free: 1000 MB"}},
		{"npm not needed", "", func(b *bench) { b.without("npm") }, true, []string{"not needed: llama.cpp's repository is reachable"}},
		{"npm needed", "", func(b *bench) {
			b.without("npm")
			b.stand("curl", `case $* in *github*) exit 6 ;; *) echo curl 8 ;; esac`)
		}, false, []string{"npm (fallback source of llama.cpp)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			for name, script := range all {
				b.stand(name, script)
			}
			if test.change != nil {
				test.change(b)
			}
			b.must(os.MkdirAll(b.cache, 0o755))
			out, ok := b.run("doctor", nil, test.env)
			if ok != test.ok {
				t.Errorf("it ended well: %v\n%s", ok, out)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if !test.ok && !strings.Contains(out, "Missing:") {
				t.Errorf("it does not say what is missing:\n%s", out)
			}
		})
	}
}

func TestDoctorFixes(t *testing.T) {
	b := newBench(t)
	for name, script := range map[string]string{
		"go": "echo go1.99.1", "python3": "echo Python 3", "npm": "echo 11", "curl": "echo curl 8", "make": "echo make 4", "git": "echo git 2",
		"df": `printf 'x\nx 1 1 9000000 1 x\n'`, "id": "echo 1000", "sudo": `"$@"`,
		"apt-get": `echo "apt-get $*" >>"$FAKE_LOG"
if [ "$1" = install ]; then printf '#!/bin/sh\necho cmake version 3.25.1\n' >"${0%/*}/cmake"; chmod +x "${0%/*}/cmake"; fi`,
	} {
		b.stand(name, script)
	}
	chmod, err := exec.LookPath("chmod")
	b.must(err)
	b.must(os.Symlink(chmod, filepath.Join(b.bin, "chmod")))
	b.without("cmake")
	out, ok := b.run("doctor", []string{"--fix"})
	if !ok || !strings.HasSuffix(out, "Everything is there.\n") {
		t.Errorf("it ended well: %v\n%s", ok, out)
	}
	if text, err := os.ReadFile(filepath.Join(b.dir, "log")); err != nil || string(text) != "apt-get update -qq\napt-get install -y cmake\n" {
		t.Errorf("it did %q, %v", text, err)
	}
}
