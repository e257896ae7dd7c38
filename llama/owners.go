package llama

import "sync/atomic"

// Kind names a kind of owner of C memory in LiveOwners.
type Kind string

// The kinds of owners.
const (
	KindModel    Kind = "model"
	KindContext  Kind = "context"
	KindBatch    Kind = "batch"
	KindSampler  Kind = "sampler"
	KindLoRA     Kind = "lora"
	KindTemplate Kind = "chat template"
	KindParser   Kind = "chat parser"
)

// owners counts, for the whole process, what has been opened and not yet closed. C memory is the process's, so its
// bookkeeping is too; nothing but tests and diagnostics reads it.
var owners struct{ model, context, batch, sampler, lora atomic.Int64 }

// LiveOwners returns how many owners of each kind are open in this process; kinds with none are left out.
func LiveOwners() map[Kind]int {
	live := map[Kind]int{}
	for kind, n := range map[Kind]*atomic.Int64{
		KindModel: &owners.model, KindContext: &owners.context, KindBatch: &owners.batch,
		KindSampler: &owners.sampler, KindLoRA: &owners.lora, KindTemplate: &chatOwners.template, KindParser: &chatOwners.parser,
	} {
		if v := n.Load(); v != 0 {
			live[kind] = int(v)
		}
	}
	return live
}
