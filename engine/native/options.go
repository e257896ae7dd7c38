package native

import (
	"path/filepath"
	"runtime"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/llama"
)

// Options say how a model is loaded. The zero value is a sane default everywhere.
type Options struct {
	// Name is what the model is served as; empty is the file's name without .gguf.
	Name   string
	SHA256 string // of the file, when known
	// Context is the most tokens of one request; 0 is what the model was trained for, at most 8,192.
	Context int
	// Cells is the size of the KV cache in tokens, shared by all requests and kept prefixes; 0 is the context or 16,384,
	// whichever is more.
	Cells int
	// Running is how many sequences are computed together; 0 is 16.
	Running int
	// Threads computes with; 0 is the number of processors this process may use.
	Threads int
	// GPULayers are put on GPUs; 0 is all of them where there is a GPU, -1 none.
	GPULayers int
	// Adapters are LoRA adapters that requests may name.
	Adapters []Adapter
	// DraftModel is a small .gguf model of the same vocabulary that guesses what streams say next; "" is none.
	DraftModel string
	// Progress is called while loading with 0 to 1.
	Progress func(done float32) `json:"-"`
}

// Adapter is a LoRA adapter of a chat model.
type Adapter struct {
	Name string
	Path string // of a .gguf file
	// Scale is the factor it is applied with; 0 is 1.
	Scale float32
}

const (
	defaultContext = 8192
	defaultCells   = 16384
	defaultRunning = 16
	batchTokens    = 512
)

func (o Options) threads() int {
	if o.Threads > 0 {
		return o.Threads
	}
	return runtime.GOMAXPROCS(0)
}

func (o Options) modelParams() llama.ModelParams {
	p := llama.DefaultModelParams()
	switch {
	case o.GPULayers < 0:
		p.GPULayers = 0
	case o.GPULayers > 0:
		p.GPULayers = o.GPULayers
	}
	p.Progress = o.Progress
	return p
}

// info describes a model as both kinds of loaders tell it.
func (o Options) info(path string, f llama.Facts) engine.Info {
	file := filepath.Base(path)
	name := o.Name
	if name == "" {
		name = file[:len(file)-len(filepath.Ext(file))]
	}
	return engine.Info{
		Name: name, File: file, Architecture: f.Architecture, Quantization: f.FileType, Parameters: f.Parameters,
		SizeBytes: f.SizeBytes, ContextTrain: f.ContextTrain, Dimensions: f.EmbeddingOut, SHA256: o.SHA256,
	}
}
