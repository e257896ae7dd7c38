// Package engine turns requests into batches and batches into token streams.
//
// A caller submits a [Request] to a [Generator] and reads a [Stream] of [Event] values. Behind it stands either an
// [Engine], which owns a model in this process, or a client of an engine elsewhere; callers cannot tell which.
//
// One goroutine, the loop, owns the model's context: sequences, KV cache, batches. It repeats four steps: plan (which
// tokens of which sequences), decode (one batch), sample (one token for each sequence that has logits) and deliver
// (never waiting for a reader). Everything else talks to it through a bounded queue, so nothing here locks around C.
//
// The package has no C in it and compiles without a C compiler. Models come in through [Backend]; the real one is
// engine/native, the deterministic one for tests is engine/enginetest.
package engine
