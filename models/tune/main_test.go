package tune

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// starterModel is the file of the starter model, or the test is skipped.
func starterModel(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("QUIPU_TEST_MODELS")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no cache folder: %v", err)
		}
		folder = filepath.Join(cache, "quipu", "models")
	}
	path := filepath.Join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is missing; `make test-models` gets it", path)
	}
	return path
}
