package llama

import "strings"

// maxGrammar bounds a grammar's text.
const maxGrammar = 1 << 20

// checkGrammar refuses what llama.cpp's parser would not survive.
func checkGrammar(grammar, root string) error {
	const op = "grammar"
	switch {
	case strings.TrimSpace(grammar) == "":
		return fail(op, ErrGrammar, "it is empty")
	case len(grammar) > maxGrammar:
		return fail(op, ErrGrammar, "it has %d bytes; at most %d", len(grammar), maxGrammar)
	case strings.ContainsRune(grammar, 0) || strings.ContainsRune(root, 0):
		return fail(op, ErrGrammar, "it has a NUL byte")
	case strings.HasPrefix(strings.TrimSpace(grammar), "%"):
		return fail(op, ErrGrammar, "it starts with %%: only GBNF is understood, not llguidance")
	}
	return nil
}
