package contract

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
)

// official is OpenAI's own client, pointed at the shared server as its users would.
func official(t *testing.T) *openai.Client {
	t.Helper()
	c := openai.NewClient(option.WithBaseURL(sharedServer(t).url+"/v1"), option.WithAPIKey("none"), option.WithHTTPClient(client), option.WithMaxRetries(0))
	return &c
}

func asks(question string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "default", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)}}
}

// plainly switches the documents off.
func plainly() option.RequestOption {
	return option.WithJSONSet("quipu", map[string]any{"grounded": false})
}

func TestGroundedAnswer(t *testing.T) {
	got, err := official(t).Chat.Completions.New(t.Context(), asks(askedBattery))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 1 || got.Choices[0].FinishReason != "stop" || got.Model != "smollm2-135m" || got.Usage.TotalTokens == 0 {
		t.Errorf("got %s", got.RawJSON())
	}
	message := got.Choices[0].Message
	g := readGrounded(t, message.JSON.ExtraFields["quipu"].Raw(), samples)
	g.wantCited(t, wantedBattery, wantedFile)
	if message.Content != g.Answer {
		t.Errorf("the content is %q, the answer %q", message.Content, g.Answer)
	}
}

func TestGroundedStream(t *testing.T) {
	request := asks(askedBattery)
	request.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := official(t).Chat.Completions.NewStreaming(t.Context(), request)
	defer stream.Close()
	var content strings.Builder
	var sources, finish, id string
	var usage openai.CompletionUsage
	gathered := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		chunk := stream.Current()
		if !gathered.AddChunk(chunk) {
			t.Errorf("the client's accumulator refuses %s", chunk.RawJSON())
		}
		if id == "" {
			id = chunk.ID
		}
		if chunk.ID != id || chunk.Model != "smollm2-135m" {
			t.Errorf("of another answer: %s", chunk.RawJSON())
		}
		usage = chunk.Usage
		for _, choice := range chunk.Choices {
			if finish != "" {
				t.Errorf("after the last choice comes %s", chunk.RawJSON())
			}
			content.WriteString(choice.Delta.Content)
			finish = choice.FinishReason
			if field, ok := choice.Delta.JSON.ExtraFields["quipu"]; ok {
				if sources = field.Raw(); finish == "" {
					t.Errorf("the sources come before the end: %s", chunk.RawJSON())
				}
			}
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if sources == "" || finish != "stop" || usage.TotalTokens == 0 {
		t.Fatalf("sources %q, finish %q, usage %+v", sources, finish, usage)
	}
	g := readGrounded(t, sources, samples)
	g.wantCited(t, wantedBattery, wantedFile)
	if content.String() != g.Answer || gathered.Choices[0].Message.Content != g.Answer {
		t.Errorf("streamed %q, the answer is %q", content.String(), g.Answer)
	}
}

func TestAbstention(t *testing.T) {
	got, err := official(t).Chat.Completions.New(t.Context(), asks(askedPancakes))
	if err != nil {
		t.Fatal(err)
	}
	readGrounded(t, got.Choices[0].Message.JSON.ExtraFields["quipu"].Raw(), samples).wantAbstained(t)
}

func TestPlainAnswer(t *testing.T) {
	client := official(t)
	request := asks("Write one sentence about " + secretWord + ".")
	request.MaxCompletionTokens = openai.Int(8)
	request.Logprobs, request.TopLogprobs = openai.Bool(true), openai.Int(2)
	got, err := client.Chat.Completions.New(t.Context(), request, plainly(), option.WithJSONSet("ignore_eos", true))
	if err != nil {
		t.Fatal(err)
	}
	choice := got.Choices[0]
	if _, grounded := choice.Message.JSON.ExtraFields["quipu"]; grounded || choice.Message.Content == "" {
		t.Errorf("got %s", got.RawJSON())
	}
	if got.Usage.CompletionTokens != 8 || choice.FinishReason != "length" || len(choice.Logprobs.Content) != 8 || len(choice.Logprobs.Content[0].TopLogprobs) != 2 {
		t.Errorf("finish %s after %d tokens, %d with logprobs", choice.FinishReason, got.Usage.CompletionTokens, len(choice.Logprobs.Content))
	}

	// The same in pieces. Without include_usage there is none.
	stream := client.Chat.Completions.NewStreaming(t.Context(), request, plainly(), option.WithJSONSet("ignore_eos", true))
	defer stream.Close()
	gathered := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		gathered.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if len(gathered.Choices) != 1 || gathered.Choices[0].FinishReason != "length" || gathered.Choices[0].Message.Content == "" || gathered.Usage.TotalTokens != 0 {
		t.Errorf("streamed %+v", gathered.ChatCompletion)
	}
}

// A whole conversation, as a client sends it: with the earlier answer as it came, quipu's object included.
func TestConversation(t *testing.T) {
	client := official(t)
	first, err := client.Chat.Completions.New(t.Context(), asks(askedBattery))
	if err != nil {
		t.Fatal(err)
	}
	var earlier openai.ChatCompletionAssistantMessageParam
	param.SetJSON([]byte(first.Choices[0].Message.RawJSON()), &earlier)
	got, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "smollm2-135m", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("Answer in short sentences."), openai.UserMessage(askedBattery), {OfAssistant: &earlier},
		openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{openai.TextContentPart("How late is the Vienna shop open on a Saturday?")}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	readGrounded(t, got.Choices[0].Message.JSON.ExtraFields["quipu"].Raw(), samples).wantCited(t, "18:00", "contact.html")
}

func TestEmbeddings(t *testing.T) {
	client := official(t)
	texts := []string{"How long is the guarantee of the battery?", "The battery has a warranty of two years.", "Bananas are yellow. 🍌"}
	request := openai.EmbeddingNewParams{Model: "all-minilm-l6-v2", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: texts}}
	got, err := client.Embeddings.New(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != len(texts) || got.Usage.PromptTokens == 0 || got.Model != "all-minilm-l6-v2" {
		t.Fatalf("got %d vectors, usage %+v of %s", len(got.Data), got.Usage, got.Model)
	}
	for i, e := range got.Data {
		if e.Index != int64(i) || len(e.Embedding) != 384 || math.Abs(dot(e.Embedding, e.Embedding)-1) > 1e-4 {
			t.Errorf("vector %d: index %d, %d dimensions, squared length %v", i, e.Index, len(e.Embedding), dot(e.Embedding, e.Embedding))
		}
	}
	if near, far := dot(got.Data[0].Embedding, got.Data[1].Embedding), dot(got.Data[0].Embedding, got.Data[2].Embedding); near < far+0.3 {
		t.Errorf("the same meaning has cosine %v, another one %v", near, far)
	}

	// The same vector in base64, of one text that is not in an array.
	request.EncodingFormat = openai.EmbeddingNewParamsEncodingFormatBase64
	request.Input = openai.EmbeddingNewParamsInputUnion{OfString: openai.String(texts[0])}
	packed, err := client.Embeddings.New(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := json.Unmarshal([]byte(packed.Data[0].JSON.Embedding.Raw()), &text); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != 4*384 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for i, want := range got.Data[0].Embedding {
		if f := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); math.Abs(float64(f)-want) > 1e-3 {
			t.Fatalf("dimension %d is %v in base64 and %v as a number", i, f, want)
		}
	}
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func TestModels(t *testing.T) {
	client := official(t)
	kinds := map[string]bool{}
	pages := client.Models.ListAutoPaging(t.Context())
	for pages.Next() {
		kinds[pages.Current().ID] = true
	}
	if err := pages.Err(); err != nil || !kinds["smollm2-135m"] || !kinds["all-minilm-l6-v2"] {
		t.Errorf("got %v, %v", kinds, err)
	}
	for _, name := range []string{"smollm2-135m", "all-minilm-l6-v2", "default"} {
		if got, err := client.Models.Get(t.Context(), name); err != nil || got.ID == "" || got.Object != "model" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	_, err := client.Models.Get(t.Context(), "nope")
	wantAPIError(t, err, http.StatusNotFound, "model_not_found", "model")
}

func TestClientErrors(t *testing.T) {
	client := official(t)
	long := strings.Repeat("What about the guarantee of the battery? ", 2500)
	for name, test := range map[string]struct {
		change      func(r *openai.ChatCompletionNewParams)
		options     []option.RequestOption
		status      int
		code, param string
	}{
		"another model":    {func(r *openai.ChatCompletionNewParams) { r.Model = "gpt-5" }, nil, 404, "model_not_found", "model"},
		"no messages":      {func(r *openai.ChatCompletionNewParams) { r.Messages = nil }, nil, 400, "missing_required_parameter", "messages"},
		"too hot":          {func(r *openai.ChatCompletionNewParams) { r.Temperature = openai.Float(3) }, nil, 400, "invalid_value", "temperature"},
		"many answers":     {func(r *openai.ChatCompletionNewParams) { r.N = openai.Int(17) }, nil, 400, "invalid_value", "n"},
		"an unknown store": {nil, []option.RequestOption{option.WithJSONSet("quipu", map[string]any{"store": "nope"})}, 404, "store_not_found", "quipu.store"},
		"an unknown field": {nil, []option.RequestOption{option.WithJSONSet("reasoning", "hard")}, 400, "unknown_parameter", "reasoning"},
		"a long question":  {func(r *openai.ChatCompletionNewParams) { r.Messages = asks(long).Messages }, nil, 400, "context_length_exceeded", "messages"},
		"a long prompt": {func(r *openai.ChatCompletionNewParams) { r.Messages = asks(long).Messages },
			[]option.RequestOption{plainly()}, 400, "context_length_exceeded", "messages"},
		"an image": {func(r *openai.ChatCompletionNewParams) {
			r.Messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
				openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64,AAAA"})})}
		}, nil, 400, "unsupported_parameter", "messages[0].content[0].type"},
	} {
		t.Run(name, func(t *testing.T) {
			request := asks(askedBattery)
			if test.change != nil {
				test.change(&request)
			}
			_, err := client.Chat.Completions.New(t.Context(), request, test.options...)
			wantAPIError(t, err, test.status, test.code, test.param)
			stream := client.Chat.Completions.NewStreaming(t.Context(), request, test.options...)
			defer stream.Close()
			if stream.Next() {
				t.Errorf("it streams %s", stream.Current().RawJSON())
			}
			wantAPIError(t, stream.Err(), test.status, test.code, test.param)
		})
	}
	_, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "all-minilm-l6-v2", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfTokens: []int64{1, 2}}})
	wantAPIError(t, err, http.StatusBadRequest, "unsupported_parameter", "input[0]")
	_, err = client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "smollm2-135m", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	wantAPIError(t, err, http.StatusNotFound, "model_not_found", "model")
	_, err = client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "all-minilm-l6-v2", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(long)}})
	wantAPIError(t, err, http.StatusBadRequest, "input_too_long", "input[0]")
}

func wantAPIError(t *testing.T, err error, status int, code, field string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want an error of the API", err)
		return
	}
	if e.StatusCode != status || e.Code != code || e.Param != field || e.Type != "invalid_request_error" || e.Message == "" {
		t.Errorf("got %d %s, want %d %s for %s", e.StatusCode, e.RawJSON(), status, code, field)
	}
}
