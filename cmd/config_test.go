package cmd

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// load reads the settings of a command line without running it.
func load(t *testing.T, args ...string) (settings, error) {
	t.Helper()
	cmd, rest, err := newRoot().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err != nil {
		t.Fatal(err)
	}
	var s settings
	err = loadSettings(cmd, &s)
	return s, err
}

func TestPrecedence(t *testing.T) {
	for name, test := range map[string]struct {
		file, env, flag string // the address that each gives
		want            string
	}{
		"nothing is set":             {"", "", "", "127.0.0.1:8080"},
		"the file":                   {"file:1", "", "", "file:1"},
		"the environment over it":    {"file:1", "env:1", "", "env:1"},
		"the flag over both":         {"file:1", "env:1", "flag:1", "flag:1"},
		"the flag over the file":     {"file:1", "", "flag:1", "flag:1"},
		"the flag's own default":     {"file:1", "env:1", "127.0.0.1:8080", "127.0.0.1:8080"},
		"the environment over none":  {"", "env:1", "", "env:1"},
		"the flag over the defaults": {"", "", "flag:1", "flag:1"},
	} {
		t.Run(name, func(t *testing.T) {
			home := clean(t)
			if test.file != "" {
				write(t, filepath.Join(home, "config", "quipu", "config.yaml"), "addr: "+test.file+"\n")
			}
			t.Setenv("QUIPU_ADDR", test.env)
			args := []string{"serve"}
			if test.flag != "" {
				args = append(args, "--addr", test.flag)
			}
			s, err := load(t, args...)
			if err != nil || s.Addr != test.want {
				t.Errorf("got %q, %v, want %q", s.Addr, err, test.want)
			}
		})
	}
}

func TestSettingsOfEveryType(t *testing.T) {
	home := clean(t)
	path := filepath.Join(home, "my.yaml")
	write(t, path, "top-k: 5\nthreads: 2\norigin: [https://a.example, https://b.example]\njson: true\n")
	t.Setenv("QUIPU_CONFIG", path)
	t.Setenv("QUIPU_THREADS", "7")
	t.Setenv("QUIPU_TEST_MODELS", "of another program's interest")
	s, err := load(t, "ask", "--data", "elsewhere", "question")
	if err != nil {
		t.Fatal(err)
	}
	if s.TopK != 5 || s.Threads != 7 || !slices.Equal(s.Origins, []string{"https://a.example", "https://b.example"}) || !s.JSON || s.Data != "elsewhere" {
		t.Errorf("got %+v", s)
	}
	t.Setenv("QUIPU_ORIGIN", "https://c.example,https://d.example")
	if s, err = load(t, "serve"); err != nil || !slices.Equal(s.Origins, []string{"https://c.example", "https://d.example"}) {
		t.Errorf("got %q, %v", s.Origins, err)
	}
}

func TestConfigFileMistakes(t *testing.T) {
	for name, test := range map[string]struct{ text, mention string }{
		"a typo":                       {"adr: 127.0.0.1:1\n", `there is no setting "adr"`},
		"a nested one":                 {"serve:\n  addr: 127.0.0.1:1\n", `there is no setting "serve/addr"`},
		"a flag that is not a setting": {"sha256: abc\n", `there is no setting "sha256"`},
		"the config file itself":       {"config: other.yaml\n", `there is no setting "config"`},
		"no value":                     {"addr:\n", "addr has no value"},
		"no YAML":                      {"addr: [\n", "config file"},
		"a list":                       {"- addr\n", "config file"},
		"a word for a number":          {"threads: many\n", "threads"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(clean(t), "config.yaml")
			write(t, path, test.text)
			_, err := load(t, "serve", "--config", path)
			if err == nil || !strings.Contains(err.Error(), test.mention) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %s", err, test.mention)
			}
		})
	}
	clean(t)
	if _, err := load(t, "serve", "--config", "absent.yaml"); err == nil {
		t.Error("a config file that was asked for and is not there is passed over")
	}
}

func TestSettingsAreFlags(t *testing.T) {
	names := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { names[f.Name] = true })
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	for _, name := range settingNames(&settings{}) {
		if secret := name == "upstream-key"; names[name] == secret { // arguments can be read by everybody
			t.Errorf("is there a flag for the setting %q? %t", name, names[name])
		}
	}
	clean(t)
	t.Setenv("QUIPU_UPSTREAM_KEY", "secret")
	if s, err := load(t, "serve", "--upstream", "http://127.0.0.1:1", "--upstream-model", "m"); err != nil || s.Upstream != "http://127.0.0.1:1" || s.UpstreamModel != "m" || s.UpstreamKey != "secret" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestNumbersOutOfRange(t *testing.T) {
	for _, change := range []settings{{TopK: -1}, {TopK: 201}, {Threads: -1}, {Context: -1}, {Parallel: -1}, {Parallel: 257}, {GPULayers: -2}} {
		if err := change.validate(); !errors.As(err, new(usageError)) {
			t.Errorf("%+v: got %v", change, err)
		}
	}
	if err := (settings{GPULayers: -1, TopK: 200, Parallel: 256}).validate(); err != nil {
		t.Error(err)
	}
	if n := reflect.TypeFor[settings]().NumField(); n != len(settingNames(&settings{})) {
		t.Errorf("%d settings have no name", n-len(settingNames(&settings{})))
	}
}
