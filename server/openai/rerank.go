package openai

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// maxDocuments is how many texts one request may rerank.
const maxDocuments = 1000

// rerankRequest is the body of POST /v1/rerank, which OpenAI has not: it is that of Jina and Cohere.
type rerankRequest struct {
	Model           string      `json:"model"`
	Query           string      `json:"query"`
	Documents       []rerankDoc `json:"documents"`
	TopN            *int        `json:"top_n"`
	ReturnDocuments bool        `json:"return_documents"`
	Truncate        bool        `json:"truncate"`
}

// rerankDoc is a text, or an object that holds it.
type rerankDoc struct {
	Text string `json:"text"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *rerankDoc) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case jsontext.KindString:
		return json.UnmarshalDecode(d, &r.Text)
	case jsontext.KindBeginObject:
		type object rerankDoc // without this method
		return json.UnmarshalDecode(d, (*object)(r))
	default:
		return strict.Reject(d, fault.InvalidType, "expected a string or an object with a text")
	}
}

type rerankList struct {
	Object  string         `json:"object"` // list
	Model   string         `json:"model"`
	Results []rerankResult `json:"results"`
	Usage   embeddingUsage `json:"usage"`
}

type rerankResult struct {
	Index          int        `json:"index"`
	RelevanceScore float64    `json:"relevance_score"`
	Document       *rerankDoc `json:"document,omitempty"`
}

func (r *rerankRequest) check() error {
	c := &checker{}
	if strings.TrimSpace(r.Query) == "" {
		c.fail(fault.Missing, "query", "a query is needed")
	}
	switch {
	case len(r.Documents) == 0:
		c.fail(fault.Missing, "documents", "at least one text is needed")
	case len(r.Documents) > maxDocuments:
		c.fail(fault.InvalidValue, "documents", "at most %d texts", maxDocuments)
	}
	for i, d := range r.Documents {
		if strings.TrimSpace(d.Text) == "" {
			c.fail(fault.InvalidValue, index("documents", i), "empty")
		}
	}
	if r.TopN != nil && *r.TopN < 1 {
		c.fail(fault.InvalidValue, "top_n", "at least 1")
	}
	return c.err
}

func (a *API) rerank(c *gin.Context) {
	ctx := c.Request.Context()
	var r rerankRequest
	if err := strict.Body(c.Writer, c.Request, a.limits, &r); err != nil {
		Fail(c, err)
		return
	}
	model, err := a.models.Reranker(r.Model)
	if err != nil {
		Fail(c, err)
		return
	}
	line := access.From(ctx)
	line.Model = model.Info().Name
	if err := r.check(); err != nil {
		Fail(c, err)
		return
	}
	texts := make([]string, len(r.Documents))
	for i, d := range r.Documents {
		texts[i] = d.Text
	}
	scores, read, err := model.Rerank(ctx, r.Query, texts, r.Truncate)
	if long, ok := errors.AsType[*engine.OverflowError](err); ok {
		err = fault.Bad(fault.InputTooLong, index("documents", long.Index), "with the query it has %d tokens, the model reads at most %d: split it, or set truncate",
			long.Tokens, long.Limit)
	}
	if err != nil {
		Fail(c, err)
		return
	}
	line.Usage.PromptTokens = read
	out := rerankList{Object: "list", Model: line.Model, Results: make([]rerankResult, len(scores)), Usage: embeddingUsage{read, read}}
	for i, score := range scores {
		out.Results[i] = rerankResult{Index: i, RelevanceScore: 1 / (1 + math.Exp(-float64(score)))}
		if r.ReturnDocuments {
			out.Results[i].Document = &r.Documents[i]
		}
	}
	// By the scores themselves: near 1 different ones become the same probability.
	slices.SortStableFunc(out.Results, func(a, b rerankResult) int { return cmp.Compare(scores[b.Index], scores[a.Index]) })
	if r.TopN != nil {
		out.Results = out.Results[:min(*r.TopN, len(out.Results))]
	}
	ok(c, out)
}
