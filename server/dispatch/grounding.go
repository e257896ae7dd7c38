package dispatch

import (
	"context"
	"errors"
	"fmt"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/server/fault"
)

// Mode says which chats are answered from the documents when the client doesn't say.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"   // those whose store holds documents
	Always Mode = "always" // all
	Never  Mode = "never"  // none
)

// Validate refuses a word that is no mode.
func (m Mode) Validate() error {
	switch m {
	case Auto, Always, Never:
		return nil
	default:
		return fmt.Errorf("grounded: use auto, always or never, not %q", string(m))
	}
}

// grounded decides whether the documents answer. The client's word goes first, then the server's mode. A store that the
// client names must be there, whoever answers; the default one is only looked at where it decides.
func (d *Dispatcher) grounded(ctx context.Context, chat Chat, a *Ask) (bool, error) {
	wanted, open := d.mode == Always, d.mode == Auto
	if a.Grounded != nil {
		wanted, open = *a.Grounded, false
	}
	holds := false
	if open || a.Store != "" {
		var err error
		if holds, err = d.holds(ctx, a.Store); err != nil {
			return false, err
		}
	}
	switch {
	case wanted && (chat.Answerer == nil || d.stores == nil):
		return false, fault.Bad(fault.Unsupported, "quipu.grounded", "this server has no knowledge base")
	case wanted && a.Plain != "":
		return false, fault.Bad(fault.Unsupported, a.Plain, "an answer from the documents can't honour this: "+
			"leave it out, or set quipu.grounded to false")
	case open:
		return holds && chat.Answerer != nil && a.Plain == "", nil
	default:
		return wanted, nil
	}
}

// holds reports whether a store has documents. A named store that is not there is an error; the default one is then empty.
func (d *Dispatcher) holds(ctx context.Context, name string) (bool, error) {
	if d.stores == nil {
		if name != "" {
			return false, fault.Bad(fault.Unsupported, "quipu.store", "this server has no knowledge base")
		}
		return false, nil
	}
	named := name != ""
	if !named {
		name = retrieval.DefaultStore
	}
	store, err := d.stores.Store(ctx, name)
	if !named && errors.Is(err, retrieval.ErrNoStore) {
		return false, nil
	}
	return store.Documents > 0, err
}
