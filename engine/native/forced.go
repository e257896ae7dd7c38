package native

import (
	"bytes"

	"github.com/quipu-ai/quipu/engine"
)

var _ engine.Forcer = (*sampler)(nil)

// textPerToken bounds how many bytes of forced text are looked at for each token wanted.
const textPerToken = 16

// Forced returns the tokens of the text that the grammar forces next, without the last one: with what follows it may be
// spelled otherwise.
func (s *sampler) Forced(max int) []engine.Token {
	if s.grammar == nil || max < 1 {
		return nil
	}
	text, complete, err := s.grammar.Forced(textPerToken * (max + 1))
	if err != nil || text == "" {
		return nil
	}
	tokens, err := s.vocab.Tokenize(text, false, false)
	if err != nil {
		return nil
	}
	s.spelled = s.spelled[:0]
	for _, t := range tokens {
		if s.spelled, err = s.vocab.AppendPiece(s.spelled, t, true); err != nil {
			return nil
		}
	}
	if !bytes.Equal(s.spelled, []byte(text)) {
		return nil // a tokenizer that puts a space before a text, or leaves some of it out
	}
	if !complete {
		tokens = tokens[:len(tokens)-1]
	}
	if tokens = tokens[:min(max, len(tokens))]; len(tokens) == 0 {
		return nil
	}
	return tokens
}
