//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bench is a folder with the scripts, on whose PATH are the ordinary tools of a system and stand-ins for the compilers,
// CMake and git, which do nothing but leave files.
type bench struct {
	t        *testing.T
	dir, bin string
	cache    string
	env      []string
}

// ordinary are tools that the scripts take for granted.
var ordinary = []string{
	"awk", "basename", "bash", "cat", "cp", "cut", "date", "df", "dirname", "env", "find", "flock", "getconf", "grep", "head", "id",
	"mkdir", "mktemp", "mv", "paste", "perl", "printf", "rm", "sed", "sh", "sha256sum", "shasum", "sleep", "sort", "tail", "tar", "touch", "tr",
}

var standIns = map[string]string{
	"uname": `case $1 in -s) echo "$FAKE_OS" ;; -m) echo "$FAKE_ARCH" ;; -sm) echo "$FAKE_OS $FAKE_ARCH" ;; esac`,
	"cc":    `echo "cc $FAKE_VERSION"`,
	"c++":   `case $* in *-fsyntax-only*) exec cat >/dev/null ;; *-print-file-name*) echo /dev/null ;; *) echo "c++ $FAKE_VERSION" ;; esac`,
	"git": `for last; do :; done
case " $* " in
*" rev-parse "*)
  while [ "$1" != -C ]; do shift; done
  exec cat "$2/.tree" ;;
*" clone "*)
  echo clone >>"$FAKE_LOG"
  case $* in *github.com*) [ "$FAKE_HUB" != away ] || { echo "fatal: could not resolve host" >&2; exit 128; } ;; esac
  mkdir -p "$last/include" "$last/ggml/include" "$last/ggml/src/ggml-cpu" "$last/common/jinja" "$last/vendor/nlohmann"
  echo 1 >"$last/include/llama.h"; echo 2 >"$last/ggml/include/ggml.h"; echo 3 >"$last/common/jinja/parser.h"; echo 4 >"$last/LICENSE"
  echo 5 >"$last/ggml/src/ggml-impl.h"; echo 6 >"$last/ggml/src/ggml-cpu/ggml-cpu-impl.h"
  echo "$FAKE_TREE" >"$last/.tree" ;;
esac`,
	"cmake": `case $1 in
-S) echo "configure $*" >>"$FAKE_LOG"; mkdir -p "$4" ;;
--build)
  echo build >>"$FAKE_LOG"
  if [ "$FAKE_BUILD" = fails ]; then echo "ggml.c:7: error: this is wrong"; exit 2; fi
  while [ "$FAKE_BUILD" = waits ] && [ ! -e "$FAKE_GATE" ]; do sleep 0.02; done
  mkdir -p "$2/src"; echo "$FAKE_VERSION" >"$2/src/libllama.a" ;;
esac`,
}

var tree = regexp.MustCompile(`(?m)^commit_tree=(\w+)$`)

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a bench") // builds work in folders with a space
	b := &bench{t: t, dir: dir, bin: filepath.Join(dir, "bin"), cache: filepath.Join(dir, "the cache")}
	for _, name := range []string{"scripts/llama", "scripts/doctor", "llama/amx.h", "go.mod"} {
		text, err := os.ReadFile(name)
		b.must(err)
		b.write(name, string(text), 0o755)
	}
	b.must(os.MkdirAll(b.bin, 0o755))
	for _, name := range ordinary {
		if path, err := exec.LookPath(name); err == nil {
			b.must(os.Symlink(path, filepath.Join(b.bin, name)))
		}
	}
	for name, script := range standIns {
		b.stand(name, script)
	}
	script, err := os.ReadFile("scripts/llama")
	b.must(err)
	found := tree.FindSubmatch(script)
	if found == nil {
		t.Fatal("scripts/llama names no tree")
	}
	b.write("cpuinfo", "model name\t: Oldest 1\nflags\t\t: sse avx2\n", 0o644)
	b.env = []string{
		"PATH=" + b.bin, "HOME=" + dir, "QUIPU_CACHE=" + b.cache, "QUIPU_CPUINFO=" + filepath.Join(dir, "cpuinfo"), "FAKE_OS=Linux", "FAKE_ARCH=x86_64",
		"FAKE_VERSION=12.2", "FAKE_TREE=" + string(found[1]), "FAKE_LOG=" + filepath.Join(dir, "log"), "FAKE_GATE=" + filepath.Join(dir, "gate"),
	}
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(name, text string, mode os.FileMode) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(text), mode))
}

// stand puts a stand-in on the PATH.
func (b *bench) stand(name, script string) {
	b.t.Helper()
	b.must(os.RemoveAll(filepath.Join(b.bin, name)))
	b.write("bin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
}

func (b *bench) without(names ...string) {
	b.t.Helper()
	for _, name := range names {
		b.must(os.RemoveAll(filepath.Join(b.bin, name)))
	}
}

func (b *bench) command(script string, args []string, env ...string) *exec.Cmd {
	bash, err := exec.LookPath("bash")
	if err != nil {
		b.t.Skip("there is no bash")
	}
	cmd := exec.CommandContext(b.t.Context(), bash, append([]string{filepath.Join(b.dir, "scripts", script)}, args...)...)
	cmd.Env = append(slices.Clone(b.env), env...)
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// run runs a script to its end; ok tells whether that was a good one.
func (b *bench) run(script string, args []string, env ...string) (out string, ok bool) {
	b.t.Helper()
	all, err := b.command(script, args, env...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return string(all), err == nil
}

// build builds, which must succeed, and returns the key.
func (b *bench) build(env ...string) string {
	b.t.Helper()
	if out, ok := b.run("llama", nil, env...); !ok {
		b.t.Fatalf("%v: %s", env, out)
	}
	flags, err := os.ReadFile(filepath.Join(b.dir, "llama", "cgo_flags.go"))
	b.must(err)
	key := regexp.MustCompile(`const buildKey = "(.*)"`).FindSubmatch(flags)
	if key == nil {
		b.t.Fatalf("no key in %s", flags)
	}
	return string(key[1])
}

// log is what the stand-ins were asked to do since the last call of forget.
func (b *bench) log() []string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if !errors.Is(err, os.ErrNotExist) {
		b.must(err)
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		words = append(words, strings.Fields(line)[0])
	}
	return words
}

func (b *bench) forget() {
	b.t.Helper()
	b.must(os.RemoveAll(filepath.Join(b.dir, "log")))
}

// underway lists the folders of builds that did not end.
func (b *bench) underway() []string {
	b.t.Helper()
	var all []string
	for _, pattern := range []string{"build.*", "get.*"} {
		some, err := filepath.Glob(filepath.Join(b.cache, "llama", pattern))
		b.must(err)
		all = append(all, some...)
	}
	return all
}

func TestBackendFlags(t *testing.T) {
	b := newBench(t)
	for _, test := range []struct {
		env  string
		want string // flags, in order; one with ! must not be there
	}{
		{"", "GGML_NATIVE=ON !GGML_METAL !GGML_CUDA !GGML_RPC !GGML_VULKAN !GGML_OPENMP BUILD_SHARED_LIBS=OFF"},
		{"BACKEND=", "GGML_NATIVE=ON"},
		{"BACKEND=cpu", "GGML_NATIVE=ON"},
		{"BACKEND=cuda", "GGML_CUDA=ON GGML_NATIVE=ON"},
		{"BACKEND=vulkan", "GGML_VULKAN=ON"},
		{"BACKEND=rpc", "GGML_RPC=ON GGML_RPC_RDMA=OFF"},
		{"BACKEND=rpc,cuda", "GGML_CUDA=ON GGML_RPC=ON"},
		{"BACKEND=cpu, vulkan", "GGML_VULKAN=ON"},
		{"PORTABLE=1", "GGML_NATIVE=OFF GGML_AVX2=ON GGML_F16C=ON !GGML_AVX512 !GGML_CPU_ARM_ARCH"},
		{"PORTABLE=1 FAKE_ARCH=aarch64", "GGML_NATIVE=OFF GGML_CPU_ARM_ARCH=armv8-a !GGML_AVX"},
		{"PORTABLE=1 BACKEND=cuda", "GGML_CUDA=ON GGML_NATIVE=OFF GGML_AVX2=ON"},
		{"FAKE_VERSION=clang", "GGML_OPENMP=OFF"},
		{"FAKE_OS=Darwin FAKE_ARCH=arm64", "GGML_METAL=OFF GGML_OPENMP=OFF GGML_NATIVE=ON"},
		{"FAKE_OS=Darwin FAKE_ARCH=arm64 BACKEND=metal PORTABLE=1", "GGML_METAL=ON GGML_METAL_EMBED_LIBRARY=ON GGML_CPU_ARM_ARCH=armv8-a !GGML_METAL=OFF"},
	} {
		var env []string
		for _, e := range strings.SplitAfter(test.env, " ") {
			if strings.Contains(e, "=") {
				env = append(env, strings.TrimSpace(e))
			} else if len(env) > 0 {
				env[len(env)-1] += " " + e
			}
		}
		out, ok := b.run("llama", []string{"cmake-flags"}, env...)
		if !ok {
			t.Errorf("%s: %s", test.env, out)
		}
		for _, want := range strings.Fields(test.want) {
			flag, not := strings.CutPrefix(want, "!")
			if strings.Contains(out, "-D"+flag) == not {
				t.Errorf("%s: is %s there? got %s", test.env, want, out)
			}
		}
	}
}

// What is missing is named, with what to do about it, before anything is fetched or built.
func TestBuildRefuses(t *testing.T) {
	for _, test := range []struct {
		name, env string
		change    func(b *bench)
		want      string
	}{
		{"no cmake", "", func(b *bench) { b.without("cmake") }, "cmake is missing: install CMake 3.14 or later"},
		{"no compiler", "", func(b *bench) { b.without("c++") }, "c++ is missing: install a C++17 compiler"},
		{"no C compiler", "CC=gcc-99 -m64", nil, "gcc-99 -m64 is missing: install a C compiler"},
		{"no CUDA", "BACKEND=cuda", nil, "nvcc is missing: BACKEND=cuda needs the CUDA toolkit"},
		{"no Vulkan", "BACKEND=vulkan", nil, "glslc is missing: BACKEND=vulkan needs the Vulkan SDK's glslc"},
		{"old Vulkan", "BACKEND=vulkan", func(b *bench) { b.stand("glslc", "exit 1") }, "does not know GL_KHR_cooperative_matrix"},
		{"Metal on Linux", "BACKEND=metal", nil, "BACKEND=metal needs macOS"},
		{"unknown", "BACKEND=opencl", nil, "there is no backend 'opencl'; use cpu, cuda, metal, vulkan, rpc"},
		{"one of two", "BACKEND=rpc,tpu", nil, "there is no backend 'tpu'"},
		{"portable where", "PORTABLE=1", func(b *bench) { b.env = append(b.env, "FAKE_ARCH=riscv64") }, "PORTABLE=1 knows x86-64 and arm64, not riscv64"},
		{"portable how", "PORTABLE=yes", nil, "PORTABLE=yes: must be 0 or 1"},
		{"no git", "", func(b *bench) { b.without("git") }, "git is missing"},
		{"no source", "FAKE_HUB=away", nil, "npm is missing: install npm, or make https://github.com/ggml-org/llama.cpp reachable"},
		{"no package", "FAKE_HUB=away", func(b *bench) { b.stand("npm", "exit 1") }, "npm pack node-llama-cpp@3.22.1 failed"},
		{"another source", "FAKE_TREE=0123", nil, "its tree is 0123, expected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			if test.change != nil {
				test.change(b)
			}
			var env []string
			if test.env != "" {
				env = []string{test.env}
			}
			out, ok := b.run("llama", nil, env...)
			if ok || !strings.Contains(out, test.want) {
				t.Errorf("it ended well: %v, and said %s", ok, out)
			}
			if log := b.log(); slices.Contains(log, "build") {
				t.Errorf("it did %v first", log)
			}
			if left := b.underway(); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
	b := newBench(t)
	if out, ok := b.run("llama", []string{"rebuild"}); ok || !strings.Contains(out, "usage:") {
		t.Errorf("an unknown word: %v, %s", ok, out)
	}
}

func TestBuildOnce(t *testing.T) {
	b := newBench(t)
	key := b.build()
	if log := b.log(); !slices.Equal(log, []string{"clone", "configure", "build"}) {
		t.Errorf("the first build did %v", log)
	}
	b.forget()
	flags, err := os.Stat(filepath.Join(b.dir, "llama", "cgo_flags.go"))
	b.must(err)
	if again := b.build(); again != key || len(b.log()) > 0 {
		t.Errorf("the second build is %s, the first was %s", again, key)
	}
	if now, err := os.Stat(filepath.Join(b.dir, "llama", "cgo_flags.go")); err != nil || !now.ModTime().Equal(flags.ModTime()) {
		t.Errorf("the flags were written again: Go would compile again (%v)", err)
	}
	for _, file := range []string{"complete", "lib/libllama.a", "include/llama.h", "include/ggml.h", "include/common/jinja/parser.h", "LICENSE.llama.cpp"} {
		if _, err := os.Stat(filepath.Join(b.cache, "llama", key, file)); err != nil {
			t.Error(err)
		}
	}
	if left := b.underway(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	b.wantCgo(key, "-O3 -march=native -DQUIPU_WRAP", wraps+" -lllama-common -lllama-common-base -lcpp-httplib -lllama -lggml -lggml-cpu -lggml-base -Wl,-Bstatic -lgomp -lstdc++ -Wl,-Bdynamic -lm -lpthread -ldl -static-libgcc")

	b.stand("nvcc", "echo nvcc 12")
	key = b.build("BACKEND=rpc,cuda,cpu", "CUDA_PATH=/opt/cuda")
	if !strings.HasPrefix(key, "v0.5.0-cuda-rpc-") {
		t.Errorf("the key is %s", key)
	}
	b.wantCgo(key, "-O3 -march=native -DQUIPU_WRAP", wraps+" -lllama-common -lllama-common-base -lcpp-httplib -lllama -lggml -lggml-cpu -lggml-cuda -lggml-rpc -lggml-base "+
		"-L/opt/cuda/lib64 -L/opt/cuda/lib64/stubs -lcudart -lcublas -lcublasLt -lcuda -Wl,-Bstatic -lgomp -lstdc++ -Wl,-Bdynamic -lm -lpthread -ldl -static-libgcc")
	key = b.build("FAKE_OS=Darwin", "FAKE_ARCH=arm64", "BACKEND=metal")
	b.wantCgo(key, "-O3 -mcpu=native", "-lllama-common -lllama-common-base -lcpp-httplib -lllama -lggml -lggml-cpu -lggml-metal -lggml-blas -lggml-base "+
		"-framework Foundation -framework Metal -framework MetalKit -framework Accelerate -lc++")
	key = b.build("PORTABLE=1")
	b.wantCgo(key, "-O3 -march=haswell -DQUIPU_WRAP", wraps+" -lllama-common -lllama-common-base -lcpp-httplib -lllama -lggml -lggml-cpu -lggml-base "+
		"-Wl,-Bstatic -lgomp -lstdc++ -Wl,-Bdynamic -lm -lpthread -ldl -static-libgcc")
}

// wraps puts llama/attention.cpp and llama/clear.cpp in the place of ggml's.
const wraps = "-Wl,--wrap=ggml_compute_forward_flash_attn_ext -Wl,--wrap=ggml_backend_buffer_clear"

// wantCgo checks the flags as Go reads them.
func (b *bench) wantCgo(key, flags, libraries string) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), "go", "list", "-json", "./llama")
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=1")
	out, err := cmd.Output()
	b.must(err)
	var p struct{ CgoCPPFLAGS, CgoCXXFLAGS, CgoLDFLAGS []string }
	b.must(json.Unmarshal(out, &p))
	if want := strings.Fields(flags); !slices.Equal(p.CgoCXXFLAGS, want) {
		b.t.Errorf("C++ is compiled with %q, want %q", p.CgoCXXFLAGS, want)
	}
	dir := filepath.Join(b.cache, "llama", key)
	if want := append([]string{"-L" + dir + "/lib"}, strings.Fields(libraries)...); !slices.Equal(p.CgoLDFLAGS, want) {
		b.t.Errorf("linked with\n%q, want\n%q", p.CgoLDFLAGS, want)
	}
	if want := []string{"-I" + dir + "/include", "-I" + dir + "/include/common", "-I" + dir + "/include/vendor"}; !slices.Equal(p.CgoCPPFLAGS, want) {
		b.t.Errorf("compiled with %q, want %q", p.CgoCPPFLAGS, want)
	}
}

// A build is another one when anything is different that it depends on, so that a cache may move between machines.
func TestBuildKey(t *testing.T) {
	b := newBench(t)
	b.stand("clang", `echo "clang $FAKE_VERSION"`)
	keys := map[string]string{b.build(): "the first"}
	for _, env := range []string{"CXXFLAGS=-g", "CFLAGS=-g", "PORTABLE=1", "BACKEND=rpc", "FAKE_VERSION=13.1", "FAKE_ARCH=aarch64", "CC=clang", "MACOSX_DEPLOYMENT_TARGET=12"} {
		key := b.build(env)
		if other, taken := keys[key]; taken {
			t.Errorf("%s gives %s, as %s did", env, key, other)
		}
		keys[key] = env
	}
	portable := b.build("PORTABLE=1")
	for _, cpu := range []string{"model name\t: Oldest 1\nflags\t\t: sse avx2 avx512f\n", "model name\t: Newest 9\nflags\t\t: sse avx2\n"} {
		b.write("cpuinfo", cpu, 0o644)
		key := b.build()
		if other, taken := keys[key]; taken {
			t.Errorf("%q gives %s, as %s did", cpu, key, other)
		}
		keys[key] = cpu
		if again := b.build("PORTABLE=1"); again != portable {
			t.Errorf("a portable build depends on the processor: %s, was %s", again, portable)
		}
	}
	b.forget()
	b.write("cpuinfo", "model name\t: Oldest 1\nflags\t\t: sse avx2\n", 0o644)
	if key := b.build(); keys[key] != "the first" || len(b.log()) > 0 {
		t.Errorf("back on the first processor the key is %s", key)
	}
}

// A build that fails, or is stopped in whatever way, leaves nothing that a later one takes for whole.
func TestBuildFailsAndGoesOn(t *testing.T) {
	b := newBench(t)
	out, ok := b.run("llama", nil, "FAKE_BUILD=fails")
	log := filepath.Join(b.cache, "llama", "failed.log")
	if ok || !strings.Contains(out, "error: this is wrong") || !strings.Contains(out, log) || len(b.underway()) > 0 {
		t.Errorf("it ended well: %v, left %v and said %s", ok, b.underway(), out)
	}
	if text, err := os.ReadFile(log); err != nil || !bytes.Contains(text, []byte("this is wrong")) {
		t.Errorf("its log is %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "llama", "cgo_flags.go")); err == nil {
		t.Error("a failed build left flags")
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		b.forget()
		cmd := b.command("llama", nil, "FAKE_BUILD=waits", fmt.Sprint("CFLAGS=", int(signal)))
		b.must(cmd.Start())
		b.waitForBuild()
		b.must(syscall.Kill(-cmd.Process.Pid, signal))
		if err := cmd.Wait(); err == nil {
			t.Errorf("%v: it ended well", signal)
		}
		if left := b.underway(); len(left) > 0 && signal != syscall.SIGKILL {
			t.Errorf("%v: it left %v", signal, left)
		}
		b.build(fmt.Sprint("CFLAGS=", int(signal)))
		if left := b.underway(); len(left) > 0 {
			t.Errorf("after %v the next build left %v", signal, left)
		}
	}
}

// waitForBuild waits until another process has begun to build.
func (b *bench) waitForBuild() {
	b.t.Helper()
	for limit := time.Now().Add(time.Minute); !slices.Contains(b.log(), "build"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			b.t.Fatalf("it does not build, only %v", b.log())
		}
	}
}

// Two that want the same build make it once.
func TestBuildAtOnce(t *testing.T) {
	b := newBench(t)
	if _, err := os.Stat(filepath.Join(b.bin, "flock")); err != nil {
		t.Skip("there is no flock here to see the second one wait by")
	}
	first := b.command("llama", nil, "FAKE_BUILD=waits")
	b.must(first.Start())
	b.waitForBuild()
	second := b.command("llama", nil)
	said, err := second.StderrPipe()
	b.must(err)
	b.must(second.Start())
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "waiting") {
		t.Errorf("the second one says %q", lines.Text())
	}
	b.write("gate", "", 0o644)
	for lines.Scan() {
		t.Errorf("the second one says %q", lines.Text())
	}
	if err := errors.Join(first.Wait(), second.Wait()); err != nil {
		t.Error(err)
	}
	b.build()
	if log := b.log(); !slices.Equal(log, []string{"clone", "configure", "build"}) {
		t.Errorf("together they did %v", log)
	}
}

// The lock of macOS is perl's.
func TestBuildWithPerlsLock(t *testing.T) {
	b := newBench(t)
	if _, err := os.Stat(filepath.Join(b.bin, "perl")); err != nil {
		t.Skip("there is no perl here")
	}
	b.without("flock")
	first := b.command("llama", nil, "FAKE_BUILD=waits")
	b.must(first.Start())
	b.waitForBuild()
	lock, err := os.Open(filepath.Join(b.cache, "llama", "lock"))
	b.must(err)
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("the lock is not held: %v", err)
	}
	b.write("gate", "", 0o644)
	b.must(first.Wait())
	b.must(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}
