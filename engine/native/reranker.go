package native

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Reranker is a reranking model on this machine: it reads a query and a text together and says how well the text answers.
// Pairs of concurrent callers are computed together. It is safe for concurrent use; its owner closes it.
type Reranker struct {
	encoder
	pairs pairs
}

var _ engine.Reranker = (*Reranker)(nil)

// LoadReranker opens a GGUF reranking model. Context, Cells and Running of the options do not apply.
func LoadReranker(ctx context.Context, path string, o Options) (*Reranker, error) {
	r := &Reranker{}
	err := r.open(ctx, path, o, func(p llama.Pooling) error {
		if p != llama.PoolingRank {
			return fmt.Errorf("%s is not a reranking model: it has no scores to give", r.info.File)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.info.Dimensions = 0
	r.pairs.vocab = r.vocab
	if source, ok := r.model.ChatTemplate("rerank"); ok {
		if r.pairs.template, err = parsePairTemplate(source); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", r.info.File, err), r.Close())
		}
	}
	return r, nil
}

// Rerank scores each text against the query, in log-odds, and gives the tokens read. When ctx ends it returns at once.
func (r *Reranker) Rerank(ctx context.Context, query string, texts []string, truncate bool) (scores []float32, read int, err error) {
	head, err := r.pairs.head(query)
	if err != nil {
		return nil, 0, fmt.Errorf("query: %w", inputError(0, err))
	}
	inputs := make([][]llama.Token, len(texts))
	for i, text := range texts {
		body, tail, err := r.pairs.rest(text)
		if err != nil {
			return nil, 0, inputError(i, err)
		}
		room := r.info.MaxInput - len(head) - len(tail)
		if room < 1 {
			return nil, 0, &engine.FieldError{Field: "query", Problem: fmt.Sprintf("has %d tokens; the model reads %d of query and text together", len(head), r.info.MaxInput)}
		}
		if len(body) > room {
			if !truncate {
				return nil, 0, &engine.OverflowError{Kind: engine.ErrInputTooLong, Index: i, Tokens: len(head) + len(body) + len(tail), Limit: r.info.MaxInput}
			}
			body = body[:room]
		}
		inputs[i] = append(append(append(make([]llama.Token, 0, len(head)+len(body)+len(tail)), head...), body...), tail...)
		read += len(inputs[i])
	}
	rows, err := r.encode(ctx, inputs)
	if err != nil {
		return nil, 0, err
	}
	scores = make([]float32, len(rows))
	for i, row := range rows {
		if scores[i] = r.score(row); math.IsNaN(float64(scores[i])) {
			return nil, 0, fmt.Errorf("%w: the score of input %d is no number", engine.ErrBackend, i)
		}
	}
	return scores, read, nil
}

// score gives the log-odds of a row, the first of whose classes means that the text answers. llama.cpp has already made
// probabilities of Qwen3's two.
func (r *Reranker) score(row []float32) float32 {
	if !strings.HasPrefix(r.info.Architecture, "qwen3") {
		return row[0]
	}
	const edge = 1e-7 // floats near 1 are this far apart
	p := min(max(float64(row[0]), edge), 1-edge)
	return float32(math.Log(p / (1 - p)))
}

// pairs writes a query and a text as the model wants to read them: as the file's template says, else as BERT and its kin
// do, [CLS] query [SEP] text [SEP].
type pairs struct {
	vocab    *llama.Vocab
	template *pairTemplate // nil when the file has none
}

// pairTemplate is a template around {query} and {document}, whose own words may be special tokens. Spaces before a place
// belong to what is put there: tokenizers join them with its first word.
type pairTemplate struct{ lead, query, between, document, after string }

func parsePairTemplate(source string) (*pairTemplate, error) {
	before, after, hasDocument := strings.Cut(source, "{document}")
	lead, between, hasQuery := strings.Cut(before, "{query}")
	if !hasDocument || !hasQuery {
		return nil, errors.New("its template for reranking has no {query} with a {document} behind it")
	}
	t := &pairTemplate{lead: strings.TrimRight(lead, " "), between: strings.TrimRight(between, " "), after: after}
	t.query, t.document = lead[len(t.lead):], between[len(t.between):]
	return t, nil
}

// head gives the tokens up to the text.
func (p pairs) head(query string) ([]llama.Token, error) {
	if t := p.template; t != nil {
		tokens, err := p.vocab.Tokenize(t.lead, false, true)
		if err == nil {
			tokens, err = p.vocab.AppendContinued(tokens, t.query+query, false)
		}
		if err == nil {
			tokens, err = p.vocab.AppendContinued(tokens, t.between, true)
		}
		return tokens, err
	}
	s := p.vocab.Specials()
	var tokens []llama.Token
	if s.AddBOS {
		tokens = append(tokens, s.BOS)
	}
	tokens, err := p.vocab.AppendTokens(tokens, query, false, false)
	if s.AddEOS {
		tokens = append(tokens, end(s))
	}
	if s.AddSEP {
		tokens = append(tokens, s.SEP)
	}
	return tokens, err
}

// rest gives the tokens of a text and of what closes the pair.
func (p pairs) rest(text string) (body, tail []llama.Token, err error) {
	if t := p.template; t != nil {
		if body, err = p.vocab.AppendContinued(nil, t.document+text, false); err == nil {
			tail, err = p.vocab.AppendContinued(nil, t.after, true)
		}
		return body, tail, err
	}
	if s := p.vocab.Specials(); s.AddEOS || s.AddSEP {
		tail = []llama.Token{end(s)}
	}
	body, err = p.vocab.AppendTokens(nil, text, false, false)
	return body, tail, err
}

// end is the token behind a text: BERT has no EOS and closes with SEP.
func end(s llama.Specials) llama.Token {
	if s.AddEOS && s.EOS != llama.NoToken {
		return s.EOS
	}
	return s.SEP
}
