package models

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// The numbers of llama.cpp's token types.
const (
	tokenNormal  int32 = 1
	tokenControl int32 = 3
)

// specialTokens are BERT's own, with their names in GGUF ("seperator" is its spelling) in the order in which they are
// written. A CLS token is written as BOS too: llama.cpp puts BOS before a text, and takes token 101 for it when no key tells.
var specialTokens = []struct {
	token string
	roles []string
}{
	{"[UNK]", []string{"unknown"}},
	{"[SEP]", []string{"seperator"}},
	{"[PAD]", []string{"padding"}},
	{"[CLS]", []string{"bos", "cls"}},
	{"[MASK]", []string{"mask"}},
}

// setWordPiece writes vocab.txt as llama.cpp's BERT tokenizer wants it: pieces that begin a word carry ▁, pieces that go on
// lose their ##, special tokens stay as they are. It returns the number of tokens.
func setWordPiece(g *ggufFile, dir string, typeVocab uint32) (int, error) {
	path := filepath.Join(dir, "vocab.txt")
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	bad := func(format string, args ...any) (int, error) {
		return 0, fmt.Errorf("%s: %w: %s", path, ErrInvalidFile, fmt.Sprintf(format, args...))
	}
	control := map[string]bool{}
	for _, s := range specialTokens {
		control[s.token] = true
	}
	ids := map[string]uint32{}
	var tokens []string
	var types []int32
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		token, kind := lines.Text(), tokenNormal
		if control[token] {
			kind = tokenControl
		} else if rest, ok := strings.CutPrefix(token, "##"); ok {
			token = rest
		} else {
			token = "\u2581" + token
		}
		if !utf8.ValidString(token) {
			return bad("line %d is not UTF-8", len(tokens)+1)
		}
		if first, twice := ids[token]; twice {
			return bad("lines %d and %d are the same token %q", first+1, len(tokens)+1, lines.Text())
		}
		ids[token] = uint32(len(tokens))
		tokens, types = append(tokens, token), append(types, kind)
	}
	if err := lines.Err(); err != nil {
		return bad("%v", err)
	}
	g.set("tokenizer.ggml.model", "bert")
	g.set("tokenizer.ggml.pre", "default")
	g.set("tokenizer.ggml.token_type_count", typeVocab)
	g.set("tokenizer.ggml.tokens", tokens)
	g.set("tokenizer.ggml.token_type", types)
	for _, s := range specialTokens {
		id, ok := ids[s.token]
		if !ok {
			return bad("there is no %s token", s.token)
		}
		for _, role := range s.roles {
			g.set("tokenizer.ggml."+role+"_token_id", id)
		}
	}
	return len(tokens), setNormalizer(g, dir)
}

// setNormalizer writes what is done to a text before it is split. A model whose folder does not tell is an uncased one.
func setNormalizer(g *ggufFile, dir string) error {
	path := filepath.Join(dir, "tokenizer_config.json")
	c := struct {
		LowerCase bool  `json:"do_lower_case"`
		Accents   *bool `json:"strip_accents"`
		Chinese   bool  `json:"tokenize_chinese_chars"`
	}{LowerCase: true, Chinese: true}
	if err := readJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !c.Chinese {
		return fmt.Errorf("%s: %w: tokenize_chinese_chars is false; llama.cpp always splits them", path, ErrUnsupported)
	}
	accents := c.LowerCase
	if c.Accents != nil {
		accents = *c.Accents
	}
	g.set("tokenizer.ggml.normalizer.lowercase", c.LowerCase)
	g.set("tokenizer.ggml.normalizer.strip_accents", accents)
	return nil
}
