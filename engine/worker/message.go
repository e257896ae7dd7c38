package worker

import (
	"github.com/fxamacker/cbor/v2"
	"github.com/quipu-ai/quipu/engine"
)

// reading is what an embedding or reranking model is to read.
type reading struct {
	Query    string
	Texts    []string
	Truncate bool
}

type embedded struct {
	Rows [][]float32
	Read int
}

type reranked struct {
	Scores []float32
	Read   int
}

// reply answers a call. An error of the model's is an answer too: gRPC's own errors then all mean that the worker is gone.
type reply[T any] struct {
	Value T
	Error *failure
}

// submission asks for a generation. The request is encoded once and kept, since its caller may change it.
type submission struct {
	Request   cbor.RawMessage
	Generated []engine.Token
}

// loading tells how far the model is loaded. The last one has Info or Error.
type loading struct {
	Done  float32
	Info  *engine.Info
	Error *failure
}

// happening is a call of one of the engine's Hooks.
type happening struct {
	Step        *engine.Step
	Done        *done
	Placing     *trial
	DraftFailed *failure
}

type done struct {
	Usage   engine.Usage
	Timings engine.Timings
	Error   *failure
}

// trial is an engine.Trial whose error goes beside it.
type trial struct {
	Trial engine.Trial
	Error *failure
}
