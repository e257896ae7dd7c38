package openai

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/quipu-ai/quipu/server/access"
	"github.com/quipu-ai/quipu/server/fault"
)

// errorBody is OpenAI's error shape.
type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Fail answers with an error and notes it in the access line.
func Fail(c *gin.Context, err error) {
	f := note(c, err)
	if f.Retry > 0 {
		c.Header("Retry-After", strconv.Itoa(int((f.Retry+time.Second-1)/time.Second)))
	}
	c.Abort()
	if f.Status == fault.StatusClientGone {
		c.Status(f.Status)
		return
	}
	data, err := encode(bodyOf(c, f))
	if err != nil {
		c.Status(http.StatusInternalServerError)
		return
	}
	c.Data(f.Status, "application/json", data)
}

// note finds the fault of an error, with its field in this dialect's words, and writes it into the access line.
func note(c *gin.Context, err error) *fault.Fault {
	f := *fault.Of(c.Request.Context(), err)
	if name, ok := wireNames[f.Param]; ok {
		f.Param = name
	}
	access.From(c.Request.Context()).Fault = &f
	return &f
}

func bodyOf(c *gin.Context, f *fault.Fault) errorBody {
	o := errorObject{Message: f.Text(), Type: f.Type}
	if f.Status >= 500 {
		o.Message = fmt.Sprintf("%s (request %s)", o.Message, access.From(c.Request.Context()).ID)
	}
	if f.Param != "" {
		o.Param = &f.Param
	}
	if f.Code != "" {
		o.Code = &f.Code
	}
	return errorBody{Error: o}
}

// wireNames maps the engine's names of fields to the wire's.
var wireNames = map[string]string{
	"Chat":                      "messages",
	"Grammar":                   "response_format", // that a schema became
	"JSONSchema":                "response_format",
	"Keep":                      "n_keep",
	"Logprobs":                  "top_logprobs",
	"MaxTokens":                 "max_completion_tokens",
	"Sampling":                  "",
	"Sampling.AdaptiveDecay":    "adaptive_decay",
	"Sampling.AdaptiveTarget":   "adaptive_target",
	"Sampling.DRYAllowedLength": "dry_allowed_length",
	"Sampling.DRYBase":          "dry_base",
	"Sampling.DRYBreakers":      "dry_sequence_breakers",
	"Sampling.DRYLastN":         "dry_penalty_last_n",
	"Sampling.DRYMultiplier":    "dry_multiplier",
	"Sampling.DynatempExponent": "dynatemp_exponent",
	"Sampling.DynatempRange":    "dynatemp_range",
	"Sampling.FrequencyPenalty": "frequency_penalty",
	"Sampling.LogitBias":        "logit_bias",
	"Sampling.MinKeep":          "min_keep",
	"Sampling.MinP":             "min_p",
	"Sampling.Mirostat":         "mirostat",
	"Sampling.MirostatEta":      "mirostat_eta",
	"Sampling.MirostatTau":      "mirostat_tau",
	"Sampling.PenaltyLastN":     "repeat_last_n",
	"Sampling.PresencePenalty":  "presence_penalty",
	"Sampling.RepeatPenalty":    "repeat_penalty",
	"Sampling.Temperature":      "temperature",
	"Sampling.TopK":             "top_k",
	"Sampling.TopNSigma":        "top_n_sigma",
	"Sampling.TopP":             "top_p",
	"Sampling.TypicalP":         "typical_p",
	"Sampling.XTCProbability":   "xtc_probability",
	"Sampling.XTCThreshold":     "xtc_threshold",
	"Shift":                     "context_shift",
	"Text":                      "messages", // that a template made empty
}
