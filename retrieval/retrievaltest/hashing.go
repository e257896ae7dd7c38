// Package retrievaltest holds an embedding model for tests: words instead of meaning, the same vector for the same text
// on every machine, and no file to load.
package retrievaltest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quipu-ai/quipu/retrieval"
)

// Hashing embeds a text as the hashed bag of its words and word pairs. It implements retrieval.Embedder; safe for
// concurrent use.
type Hashing struct {
	Name       string // empty is "hashing"
	Dimensions int    // 0 is 64
	MaxInput   int    // tokens; 0 is 512
}

// Info describes the model.
func (h Hashing) Info() retrieval.EmbedderInfo {
	info := retrieval.EmbedderInfo{Name: h.Name, Dimensions: h.Dimensions, MaxInput: h.MaxInput}
	if info.Name == "" {
		info.Name = "hashing"
	}
	if info.Dimensions == 0 {
		info.Dimensions = 64
	}
	if info.MaxInput == 0 {
		info.MaxInput = 512
	}
	return info
}

// Embed gives one unit-length row per text and refuses a text over the limit, as real models do.
func (h Hashing) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	info := h.Info()
	counts, err := h.CountTokens(texts)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if counts[i] > info.MaxInput {
			return nil, fmt.Errorf("text %d has %d tokens of at most %d", i, counts[i], info.MaxInput)
		}
		out[i] = embed(text, info.Dimensions)
	}
	return out, nil
}

func embed(text string, dimensions int) []float32 {
	v := make([]float32, dimensions)
	add := func(gram string, weight float32) {
		hash := fnv.New64a()
		hash.Write([]byte(gram))
		sum := hash.Sum64()
		if sum&1 == 1 {
			weight = -weight
		}
		v[(sum>>1)%uint64(dimensions)] += weight
	}
	before := ""
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }) {
		add(word, 1)
		add(before+" "+word, 0.5)
		before = word
	}
	var norm float64
	for _, x := range v {
		norm += float64(x) * float64(x)
	}
	if norm == 0 {
		v[0] = 1
		return v
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(norm))
	}
	return v
}

// pieceRunes is how many letters of a word make a token.
const pieceRunes = 6

// CountTokens counts as word-piece models do: words in pieces, every other visible character for itself, a word of more
// than 100 letters as one unknown token, and two special tokens around everything.
func (h Hashing) CountTokens(texts []string) ([]int, error) {
	out := make([]int, len(texts))
	for i, text := range texts {
		n, word := 2, 0
		end := func() {
			switch {
			case word > 100:
				n++
			default:
				n += (word + pieceRunes - 1) / pieceRunes
			}
			word = 0
		}
		for _, r := range text {
			switch {
			case unicode.IsLetter(r) || unicode.IsNumber(r):
				word++
			case unicode.IsSpace(r) || r == utf8.RuneError:
				end()
			default:
				end()
				n++
			}
		}
		end()
		out[i] = n
	}
	return out, nil
}
