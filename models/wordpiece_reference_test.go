package models

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// wordPiece is BERT's uncased tokenizer, written from its description for these tests alone: clean the text, set Chinese
// characters apart, decompose, drop accents, lower-case, split at spaces and punctuation, cut words into the longest pieces of
// the vocabulary. (Devlin et al. 2019, https://arxiv.org/abs/1810.04805; Wu et al. 2016, https://arxiv.org/abs/1609.08144)
type wordPiece map[string]int32

func readVocabulary(t *testing.T, path string) wordPiece {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := wordPiece{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w[lines.Text()] = int32(len(w))
	}
	return w
}

// ids is text with [CLS] before and [SEP] after it.
func (w wordPiece) ids(text string) []int32 {
	out := []int32{w["[CLS]"]}
	for _, word := range words(text) {
		out = w.appendPieces(out, word)
	}
	return append(out, w["[SEP]"])
}

// maxWord is how many characters a word may have before it is unknown.
const maxWord = 100

func (w wordPiece) appendPieces(out []int32, word string) []int32 {
	start := len(out)
	if utf8.RuneCountInString(word) > maxWord {
		return append(out, w["[UNK]"])
	}
	for rest := word; rest != ""; {
		end := len(rest)
		for ; end > 0; end-- {
			piece := rest[:end]
			if len(rest) < len(word) {
				piece = "##" + piece
			}
			if id, ok := w[piece]; ok {
				out = append(out, id)
				break
			}
		}
		if end == 0 {
			return append(out[:start], w["[UNK]"])
		}
		rest = rest[end:]
	}
	return out
}

// words are the words of a text and its marks, each alone.
func words(text string) []string {
	var clean strings.Builder
	for _, r := range text {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			clean.WriteByte(' ')
		case r == 0 || r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co):
		case chinese(r):
			clean.WriteString(" " + string(r) + " ")
		default:
			clean.WriteRune(r)
		}
	}
	var out []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	for _, r := range norm.NFD.String(clean.String()) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case unicode.IsSpace(r):
			end()
		case unicode.IsPunct(r) || r < utf8.RuneSelf && unicode.IsSymbol(r):
			end()
			out = append(out, string(unicode.ToLower(r)))
		default:
			word.WriteRune(unicode.ToLower(r))
		}
	}
	end()
	return out
}

// chinese are the blocks of CJK ideographs; Hangul and kana are words like others.
func chinese(r rune) bool {
	for _, block := range [][2]rune{{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF}, {0x2F800, 0x2FA1F}} {
		if r >= block[0] && r <= block[1] {
			return true
		}
	}
	return false
}
