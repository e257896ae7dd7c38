package contract

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// What all tests share: made by TestMain.
var (
	bin     string // the binary, an absolute path
	home    string // of every process that is started; holds nothing of the user's
	samples string // the sample documents
	repo    string // the repository's root
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "the shared server:", err)
		code = 1
	}
	client.CloseIdleConnections()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := os.RemoveAll(home); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepare() error {
	var err error
	if repo, err = filepath.Abs(".."); err != nil {
		return err
	}
	samples = filepath.Join(repo, "examples", "lumen-bikes", "docs")
	bin = os.Getenv("QUIPU_BIN")
	if bin == "" {
		bin = filepath.Join(repo, "bin", "quipu")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("there is no binary to test: %w (`make build` makes it, QUIPU_BIN names another)", err)
	}
	if home, err = os.MkdirTemp("", "quipu-contract-"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(home, "cache"), 0o755); err != nil {
		return err
	}
	models, err := filepath.Abs(os.Getenv("QUIPU_TEST_MODELS"))
	if err != nil || os.Getenv("QUIPU_TEST_MODELS") == "" {
		return err
	}
	return os.Symlink(models, filepath.Join(home, "cache", "models"))
}

// The starter models' files in the folder of models.
const (
	chatFile      = "SmolLM2-135M-Instruct.Q4_1.gguf"
	embeddingFile = "all-MiniLM-L6-v2.f16.gguf"
)

// needModels skips a test without the starter models, or fails it where nothing may be skipped.
func needModels(t *testing.T) {
	t.Helper()
	for _, file := range []string{chatFile, embeddingFile} {
		if _, err := os.Stat(filepath.Join(home, "cache", "models", file)); err == nil {
			continue
		}
		message := fmt.Sprintf("QUIPU_TEST_MODELS does not hold %s; `make test-models` gets it", file)
		if os.Getenv("CI") == "true" || os.Getenv("QUIPU_TEST_REQUIRE") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
}
