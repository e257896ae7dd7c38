package openai

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/fault"
	"github.com/quipu-ai/quipu/server/strict"
)

// maxInputs is how many texts one request may embed, as OpenAI's.
const maxInputs = 2048

// embeddingRequest is the body of POST /v1/embeddings.
type embeddingRequest struct {
	Model          string         `json:"model"`
	Input          inputs         `json:"input"`
	EncodingFormat string         `json:"encoding_format"`
	Dimensions     *int           `json:"dimensions"`
	Truncate       bool           `json:"truncate"` // as in Jina's and Ollama's
	User           jsontext.Value `json:"user"`     // without effect
}

// inputs is a text, or an array of texts.
type inputs []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom. Tokens are refused by name: they are another tokenizer's.
func (in *inputs) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginArray {
		return json.UnmarshalDecode(d, (*oneMany)(in))
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*in = inputs{}
	for d.PeekKind() != jsontext.KindEndArray {
		switch d.PeekKind() {
		case jsontext.KindNumber, jsontext.KindBeginArray:
			return strict.Reject(d, fault.Unsupported, "arrays of tokens are not supported: send the text")
		case jsontext.KindNull:
			return strict.Reject(d, fault.InvalidType, "expected a string, got null")
		}
		var text string
		if err := json.UnmarshalDecode(d, &text); err != nil {
			return err
		}
		*in = append(*in, text)
	}
	_, err := d.ReadToken()
	return err
}

type embeddingList struct {
	Object string         `json:"object"` // list
	Data   []embedding    `json:"data"`
	Model  string         `json:"model"`
	Usage  embeddingUsage `json:"usage"`
}

type embedding struct {
	Object    string `json:"object"` // embedding
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or base64 of little-endian float32
}

type embeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

func (r *embeddingRequest) check(dimensions int) error {
	c := &checker{}
	switch {
	case len(r.Input) == 0:
		c.fail(fault.Missing, "input", "at least one text is needed")
	case len(r.Input) > maxInputs:
		c.fail(fault.InvalidValue, "input", "at most %d texts", maxInputs)
	}
	for i, text := range r.Input {
		if strings.TrimSpace(text) == "" {
			c.fail(fault.InvalidValue, index("input", i), "empty")
		}
	}
	switch r.EncodingFormat {
	case "", "float", "base64":
	default:
		c.fail(fault.InvalidValue, "encoding_format", "use float or base64")
	}
	if r.Dimensions != nil && *r.Dimensions != dimensions {
		c.fail(fault.Unsupported, "dimensions", "the model's vectors have %d and are not shortened", dimensions)
	}
	return c.err
}

func (a *API) embeddings(c *gin.Context) {
	ctx := c.Request.Context()
	var r embeddingRequest
	if err := strict.Body(c.Writer, c.Request, a.limits, &r); err != nil {
		Fail(c, err)
		return
	}
	model, err := a.models.Embedder(r.Model)
	if err != nil {
		Fail(c, err)
		return
	}
	info := model.Info()
	line := access.From(ctx)
	line.Model = info.Name
	if err := r.check(info.Dimensions); err != nil {
		Fail(c, err)
		return
	}
	vectors, read, err := model.EmbedCounted(ctx, r.Input, r.Truncate)
	if err != nil {
		Fail(c, err)
		return
	}
	line.Usage.PromptTokens = read
	out := embeddingList{Object: "list", Data: make([]embedding, len(vectors)), Model: info.Name,
		Usage: embeddingUsage{read, read}}
	for i, v := range vectors {
		out.Data[i] = embedding{Object: "embedding", Index: i, Embedding: v}
		if r.EncodingFormat == "base64" {
			out.Data[i].Embedding = packed(v)
		}
	}
	ok(c, out)
}

// packed is a vector as base64 of its little-endian floats.
func packed(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b)
}
