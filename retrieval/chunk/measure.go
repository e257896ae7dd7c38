package chunk

import (
	"unicode"
	"unicode/utf8"
)

// runesPerToken bounds what a token may stand for: word-piece models count any word of more than 100 letters as one
// unknown token. Prose has four to five characters a token.
const runesPerToken = 8

// sizes are the tokens of each text, or more where a token would stand for too much text.
func (s *splitter) sizes(texts []string) ([]int, error) {
	counts, err := s.counter.CountTokens(texts)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(texts))
	for i, t := range texts {
		out[i] = max(counts[i], utf8.RuneCountInString(t)/runesPerToken)
	}
	return out, nil
}

// runeStart moves an offset back to the start of a character.
func runeStart(text string, at int) int {
	for at > 0 && at < len(text) && !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}

// wordStart moves an offset back to just behind white space in the last quarter before it, if there is any, else to the
// start of a character; never to 0.
func wordStart(text string, at int) int {
	for i := at; i > at*3/4; i-- {
		if r, size := utf8.DecodeLastRuneInString(text[:i]); unicode.IsSpace(r) && size > 0 {
			return i
		}
	}
	if i := runeStart(text, at); i > 0 {
		return i
	}
	_, size := utf8.DecodeRuneInString(text)
	return size
}

// trim narrows text[start:end] to what is not white space.
func trim(text string, start, end int) (int, int) {
	for start < end {
		r, size := utf8.DecodeRuneInString(text[start:end])
		if !unicode.IsSpace(r) {
			break
		}
		start += size
	}
	for start < end {
		r, size := utf8.DecodeLastRuneInString(text[start:end])
		if !unicode.IsSpace(r) {
			break
		}
		end -= size
	}
	return start, end
}
