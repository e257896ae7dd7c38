//go:build cgo

package models

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quipu-ai/quipu/llama"
)

// mixed are texts of every kind that documents hold.
var mixed = map[string]string{
	"a question":    "How do I reset my password?",
	"a sentence":    "The warranty covers the frame for two years, but not the tyres (12.5 % deductible).",
	"one word":      "bicycle",
	"no word":       "",
	"spaces":        "  several\tspaces\nand\r\nlines\u00a0of \u3000 all kinds  ",
	"marks":         "«Wait…» – she said: “no!”; e.g. $5+€3 = 8? ©®™ ½ №7 §4 #1 a_b ~c ^d `e` |f|",
	"rare words":    "Pneumonoultramicroscopicsilicovolcanoconiosis, antidisestablishmentarianism and floccinaucinihilipilification.",
	"accents":       "Crème brûlée, naïve façade, Ångström, Łódź, Dvořák, Straße, İstanbul, smørrebrød, e\u0301te\u0301",
	"Greek":         "Ο γρήγορος καφέ αλεπού πηδάει πάνω από τον τεμπέλη σκύλο. ΑΘΗΝΑ, Ώρα",
	"Cyrillic":      "Съешь же ещё этих мягких французских булок, да выпей чаю. Її город Йошкар-Ола",
	"Chinese":       "自行车的保修期是两年。請重新設定您的密碼！",
	"Japanese":      "パスワードをリセットするには、ガイドの「設定」をご覧ください。ひらがな",
	"Korean":        "비밀번호를 재설정하려면 어떻게 해야 하나요? 자전거 보증 기간은 2년입니다. ㄱㄴㄷ, 값",
	"Arabic":        "كيف يمكنني إعادة تعيين كلمة المرور؟ مرحبا",
	"Hebrew":        "איך אני מאפס את הסיסמה שלי?",
	"Vietnamese":    "Làm thế nào để đặt lại mật khẩu của tôi?",
	"emoji":         "Delivered 🚲 on time 👍🏽, thanks! ❤️ 👨‍👩‍👧‍👦 :-) 🇫🇷",
	"mixed scripts": "the café in 東京 serves кофе for 500円 ☕",
	"full width":    "ＦＵＬＬ　ｗｉｄｔｈ　１２３，ﬁne ﬂuﬀy ²³ Ⅷ",
	"Go": `func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	for i := 0; i < 10; i++ { fmt.Printf("%d: %#v\n", i, s.names[i]) }
	return fmt.Errorf("serve: %w", ctx.Err()) // never nil
}`,
	"Python": "def mean(xs: list[float]) -> float:\n    \"\"\"The mean.\"\"\"\n    return sum(xs) / len(xs) if xs else float('nan')  # @todo",
	"JSON":   `{"id": "a1b2-c3d4", "price": 1299.00, "tags": ["e-bike", null, true], "url": "https://example.com/a?b=c&d=%20#e"}`,
	"shell":  "curl -sS http://127.0.0.1:8080/v1/models | jq '.data[].id' && rm -rf ./tmp/*.log 2>/dev/null",
	"table":  "| Part | Price |\n|---|---:|\n| Brake pads | €18.50 |\n| Chain (11-speed) | €32.00 |",
	"300 tokens": strings.Repeat("Our bicycles are built by hand in a small workshop near the river. Every frame is welded, painted and tested before it "+
		"leaves us. If a part breaks within two years, send a photo and your order number to support; we answer within 48 hours. ", 5) +
		"Batteries lose about 20 % of their capacity after 500 charges. Die Garantie gilt auch für Zubehör. 保修两年。 `quipu ingest --data ./data docs/`",
}

// testModels is the folder of models for tests.
func testModels(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("QUIPU_TEST_MODELS")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no cache folder: %v", err)
		}
		folder = filepath.Join(cache, "quipu", "models")
	}
	return folder
}

// minilmDir is the folder of the downloaded model, or the test is skipped.
func minilmDir(t *testing.T) string {
	t.Helper()
	folder := testModels(t)
	dir := filepath.Join(folder, "all-MiniLM-L6-v2")
	for _, file := range []string{"model.safetensors", "config.json", "vocab.txt"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Skipf("%s is missing in %s; `make test-models` gets it", file, dir)
		}
	}
	return dir
}

// embedder is a model in llama.cpp that embeds one text at a time.
type embedder struct {
	t       *testing.T
	vocab   *llama.Vocab
	context *llama.Context
	batch   *llama.Batch
}

func loadEmbedder(t *testing.T, path string) *embedder {
	t.Helper()
	m, err := llama.Load(t.Context(), path, llama.DefaultModelParams())
	if err != nil {
		t.Fatal(err)
	}
	closing(t, m)
	e := &embedder{t: t, vocab: m.Vocab()}
	p := llama.DefaultContextParams()
	n := m.Facts().ContextTrain
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Threads, p.BatchThreads, p.Embeddings = n, n, n, 2, 2, true
	if e.context, err = llama.NewContext(m, p); err != nil {
		t.Fatal(err)
	}
	closing(t, e.context)
	if e.batch, err = llama.NewBatch(n, 1); err != nil {
		t.Fatal(err)
	}
	closing(t, e.batch)
	return e
}

func closing(t *testing.T, c interface{ Close() error }) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func (e *embedder) tokens(text string) []int32 {
	e.t.Helper()
	tokens, err := e.vocab.Tokenize(text, true, false)
	if err != nil {
		e.t.Fatal(err)
	}
	return tokens
}

func (e *embedder) embed(tokens []int32) []float32 {
	e.t.Helper()
	e.batch.Clear()
	for i, token := range tokens {
		if err := e.batch.Add(token, i, true, 0); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := e.context.Encode(e.t.Context(), e.batch); err != nil {
		e.t.Fatal(err)
	}
	row, err := e.context.SequenceEmbedding(0)
	if err != nil {
		e.t.Fatal(err)
	}
	return slices.Clone(row)
}

// An imported MiniLM gives the embeddings that its float weights give, on every kind of text.
func TestImportedMiniLM(t *testing.T) {
	dir := minilmDir(t)
	vocabulary, reference := readVocabulary(t, filepath.Join(dir, "vocab.txt")), readBert(t, dir)
	ids, expected := map[string][]int32{}, map[string][]float32{}
	for name, text := range mixed {
		ids[name] = vocabulary.ids(text)
		expected[name] = mean(reference.rows(ids[name]))
	}
	if n := len(ids["300 tokens"]); n < 280 || n > 320 {
		t.Errorf("the long text has %d tokens, not about 300", n)
	}
	for kind, least := range map[string]float64{"f16": 0.9999, "q8_0": 0.999} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "minilm.gguf")
			steps := 0
			o := ImportOptions{Type: kind, Progress: func(done, total int) {
				if steps++; done != steps || total != 101 {
					t.Errorf("step %d says %d of %d", steps, done, total)
				}
			}}
			if err := Import(t.Context(), dir, path, o); err != nil {
				t.Fatal(err)
			}
			e := loadEmbedder(t, path)
			worst := 1.0
			for name, text := range mixed {
				if got := e.tokens(text); !slices.Equal(got, ids[name]) {
					t.Errorf("%s: tokens %v, by BERT's own rules %v", name, got, ids[name])
					continue
				}
				got := cosine(e.embed(ids[name]), expected[name])
				if math.IsNaN(got) || got < least {
					t.Errorf("%s: cosine %.6f, at least %g is required", name, got, least)
				}
				worst = min(worst, got)
			}
			t.Logf("the least cosine is %.6f", worst)
		})
	}
}
