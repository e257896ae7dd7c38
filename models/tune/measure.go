package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/quipu-ai/quipu/llama"
)

const (
	measurePrompt = 512  // tokens of a prompt, computed at once
	measureSteps  = 16   // tokens generated behind it
	measureRounds = 3    // of which the fastest counts: others' work only ever slows
	measureText   = 2048 // tokens that quality is measured on
	measureWindow = 256  // of them are read together
	measureBlock  = 64   // of them are one sample; and so many outputs are computed at once
)

// sample is what one file measures at.
type sample struct {
	format Format
	blocks []float64 // mean log-likelihood of each block of the text, in nats per token
}

// rig is a loaded model with what measuring needs.
type rig struct {
	model   *llama.Model
	context *llama.Context
	batch   *llama.Batch
}

func openRig(ctx context.Context, path string, threads int) (*rig, error) {
	params := llama.DefaultModelParams()
	params.GPULayers = 0
	model, err := llama.Load(ctx, path, params)
	if err != nil {
		return nil, err
	}
	r := &rig{model: model}
	facts := model.Facts()
	if !facts.HasDecoder || len(facts.ClassLabels) > 0 {
		return nil, errors.Join(errors.New("it does not generate text: only chat models are tuned"), r.close())
	}
	p := llama.DefaultContextParams()
	p.ContextSize, p.BatchSize, p.UBatchSize, p.Sequences, p.MaxOutputs = 2*measurePrompt, measurePrompt, measurePrompt, 1, measureBlock
	p.Threads, p.BatchThreads = threads, threads
	if r.context, err = llama.NewContext(model, p); err == nil {
		r.batch, err = llama.NewBatch(measurePrompt, 1)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	if !r.context.HasMemory() {
		return nil, errors.Join(errors.New("it does not generate text: only chat models are tuned"), r.close())
	}
	return r, nil
}

func (r *rig) close() error {
	if r.batch != nil {
		r.batch.Close()
	}
	if r.context != nil {
		r.context.Close()
	}
	return r.model.Close()
}

// decode computes tokens from a position on; the last outputs of them have logits.
func (r *rig) decode(ctx context.Context, tokens []llama.Token, from, outputs int) error {
	r.batch.Clear()
	for i, t := range tokens {
		if err := r.batch.Add(t, from+i, i >= len(tokens)-outputs, 0); err != nil {
			return err
		}
	}
	return r.context.Decode(ctx, r.batch)
}

// measure loads a file and measures it.
func measure(ctx context.Context, path, text string, threads int) (*sample, error) {
	runtime.LockOSThread() // which owns the threads that compute
	defer runtime.UnlockOSThread()
	r, err := openRig(ctx, path, threads)
	if err != nil {
		return nil, err
	}
	defer r.close()
	s := &sample{format: Format{Quantization: formatName(r.model.Facts().FileType), Bytes: int64(r.model.Facts().SizeBytes)}}
	if s.blocks, err = r.likelihood(ctx, text); err != nil {
		return nil, err
	}
	s.format.Prefill, s.format.Decode, err = r.speed(ctx)
	return s, err
}

// measureThreads measures a file with one thread and more.
func measureThreads(ctx context.Context, path string, most int) ([]ThreadRate, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := openRig(ctx, path, most)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var rates []ThreadRate
	for n := 1; n <= most; n++ {
		if n > 4 && n%4 != 0 && n != most {
			continue // between neighbours there is little to find
		}
		r.context.SetThreads(n, n)
		rate := ThreadRate{Threads: n}
		if rate.Prefill, rate.Decode, err = r.speed(ctx); err != nil {
			return nil, err
		}
		rates = append(rates, rate)
	}
	return rates, nil
}

// speed gives the tokens per second of prompts and of generation.
func (r *rig) speed(ctx context.Context) (prefill, decode float64, err error) {
	prompt := make([]llama.Token, measurePrompt)
	for i := range prompt {
		prompt[i] = llama.Token((i*2654435761 + 12345) % r.model.Vocab().Len())
	}
	for range measureRounds {
		if err := r.context.Memory().Clear(false); err != nil {
			return 0, 0, err
		}
		began := time.Now()
		if err := r.decode(ctx, prompt, 0, 1); err != nil {
			return 0, 0, err
		}
		r.context.Synchronize()
		prefill = max(prefill, measurePrompt/time.Since(began).Seconds())
		began = time.Now()
		for i := range measureSteps {
			if err := r.decode(ctx, prompt[i:i+1], measurePrompt+i, 1); err != nil {
				return 0, 0, err
			}
			r.context.Synchronize()
		}
		decode = max(decode, measureSteps/time.Since(began).Seconds())
	}
	return prefill, decode, nil
}

// likelihood reads a text window by window and gives the mean log-likelihood of each block's tokens.
func (r *rig) likelihood(ctx context.Context, text string) ([]float64, error) {
	v := r.model.Vocab()
	tokens, err := v.Tokenize(text, false, false)
	if err != nil {
		return nil, err
	}
	tokens = tokens[:min(len(tokens), measureText)]
	if len(tokens) < 2*measureBlock {
		return nil, fmt.Errorf("the text has %d tokens: at least %d are needed to measure quality on", len(tokens), 2*measureBlock)
	}
	var blocks []float64
	for at := 0; at < len(tokens); at += measureWindow {
		window := tokens[at:min(at+measureWindow+1, len(tokens))] // the last one is only predicted
		if v.Specials().AddBOS {
			window = append([]llama.Token{v.Specials().BOS}, window...)
		}
		if err := r.context.Memory().Clear(false); err != nil {
			return nil, err
		}
		// A block's tokens predict one further each; what is left over at the end of a window is too little to be one.
		for from := 0; from+measureBlock < len(window); from += measureBlock {
			if err := r.decode(ctx, window[from:from+measureBlock], from, measureBlock); err != nil {
				return nil, err
			}
			var sum float64
			for i := range measureBlock {
				logits, err := r.context.Logits(i)
				if err != nil {
					return nil, err
				}
				sum += logProbability(logits, window[from+i+1])
			}
			blocks = append(blocks, sum/measureBlock)
		}
	}
	return blocks, nil
}

// logProbability is the log-softmax of one token.
func logProbability(logits []float32, token llama.Token) float64 {
	top := math.Inf(-1)
	for _, l := range logits {
		top = max(top, float64(l))
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - top)
	}
	return float64(logits[token]) - top - math.Log(sum)
}
