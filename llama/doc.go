// Package llama is a Go binding over llama.h of llama.cpp v0.5.0, and the only place in quipu with C.
//
// It has the nouns of llama.h and no ideas of its own about serving: a [Model] is a file in memory, a [Vocab] its
// tokenizer, a [Context] computes on it, a [Batch] is what it computes, [Memory] is the context's KV cache, a [Sampler]
// chooses tokens, a [LoRA] changes the model.
//
// # Ownership
//
// Model, Context, Batch, Sampler, LoRA, ChatTemplate and ChatParser own C memory. Each has an idempotent Close, and
// nothing is closed by the garbage collector. Children close before their parent: Model.Close refuses with [ErrInUse]
// while a Context, Sampler or LoRA of it lives, and LoRA.Close while a Context applies it. Deferred Closes in order of
// creation therefore work.
// [LiveOwners] counts what is open, so that a test can prove that nothing was leaked.
//
// Slices that Context returns (logits, embeddings) are borrowed from C and valid until its next Decode, Encode or
// Close; copy what must live longer.
//
// # Concurrency
//
// Model and Vocab are safe for concurrent use. A Context with its Memory, a Batch, a Sampler and a Candidates belong to
// one goroutine at a time; each counts its calls in a plain field, so that the race detector finds who breaks this.
// Different Contexts of one Model may run at the same time. llama.cpp's CPU threads belong to the calling OS thread,
// so a goroutine that decodes all the time should call runtime.LockOSThread.
//
// # Errors
//
// llama.cpp ends the process on many wrong calls. Whatever is known to do that is checked before the call and comes back
// as an error: an [Error] that names the operation and wraps one of the sentinels in errors.go. For the rest its
// assertions are turned into exceptions and those into errors, except where several threads compute; after such an
// ErrCompute the context should be closed.
//
// # Example
//
//	m, err := llama.Load(ctx, "model.gguf", llama.DefaultModelParams())
//	if err != nil { return err }
//	defer m.Close()
//	c, err := llama.NewContext(m, llama.DefaultContextParams())
//	if err != nil { return err }
//	defer c.Close()
//	s, err := llama.NewSampler(m, llama.TopK(40), llama.Temp(0.8), llama.Dist(7))
//	if err != nil { return err }
//	defer s.Close()
//	tokens, err := m.Vocab().Tokenize("The sky is", true, false)
//	if err != nil { return err }
//	b, err := llama.NewBatch(c.BatchSize(), 1)
//	if err != nil { return err }
//	defer b.Close()
//	for i, t := range tokens {
//		if err := b.Add(t, i, i == len(tokens)-1, 0); err != nil { return err }
//	}
//	if err := c.Decode(ctx, b); err != nil { return err }
//	next, err := s.Sample(c, b.Len()-1)
package llama
