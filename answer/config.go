package answer

import (
	"errors"
	"fmt"
)

// Config tunes an Answerer. Start from Default.
type Config struct {
	// TopK passages are packed into the prompt at most, for a question that doesn't say how many.
	TopK int
	// Retrieved is the number of passages that are searched for evidence.
	Retrieved int
	// MaxTokens bounds the generated answer of a question that doesn't say.
	MaxTokens int
	// Abstention is the whole answer when the documents don't hold one.
	Abstention string
	// Instruction opens the prompt. It must ask for an answer from the passages.
	Instruction string
	// Answerable is the probability below which the answer abstains; 0 never abstains while there is evidence.
	Answerable float64
	// Support is the probability below which a generated sentence counts as unsupported.
	Support float64
	// MarkUnsupported keeps unsupported sentences in the answer and lists them in Answer.Unsupported, instead of
	// replacing them by quotes.
	MarkUnsupported bool
	// Quotes bounds the sentences that are quoted where the model's own answer fails the check.
	Quotes int
	// Trusted is the number of parameters from which on a model may choose among what the evidence says. With a smaller one
	// several good pieces of evidence are all quoted, and so is one that its sentence leaves something out of.
	Trusted uint64
	// Scored is the number of evidence candidates whose likelihood the chat model is asked for; 0 asks for none.
	Scored int
	// CachedPassages bounds the passages whose sentences' embeddings are kept.
	CachedPassages int
}

// Default is a Config that suits a small chat model and a sentence embedding model.
func Default() Config {
	return Config{
		TopK:           3,
		Retrieved:      8,
		MaxTokens:      96,
		Abstention:     "The documents don't say.",
		Instruction:    "Answer the question in one or two short sentences. Use only facts from the passages.",
		Answerable:     0.5,
		Support:        0.5,
		Quotes:         3,
		Trusted:        1_000_000_000,
		Scored:         4,
		CachedPassages: 2048,
	}
}

// Validate names everything that is out of range.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, field, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", field, want))
		}
	}
	check(c.TopK >= 1 && c.TopK <= 200, "TopK", "1 to 200")
	check(c.Retrieved >= 1 && c.Retrieved <= 200, "Retrieved", "1 to 200")
	check(c.MaxTokens >= 1, "MaxTokens", "at least 1")
	check(c.Abstention != "", "Abstention", "a sentence")
	check(c.Instruction != "", "Instruction", "a sentence")
	check(c.Answerable >= 0 && c.Answerable <= 1, "Answerable", "0 to 1")
	check(c.Support >= 0 && c.Support <= 1, "Support", "0 to 1")
	check(c.Quotes >= 1 && c.Quotes <= 16, "Quotes", "1 to 16")
	check(c.Scored >= 0 && c.Scored <= 64, "Scored", "0 to 64")
	check(c.CachedPassages >= 1, "CachedPassages", "at least 1")
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return nil
}
