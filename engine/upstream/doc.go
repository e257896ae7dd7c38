// Package upstream generates with a server elsewhere that speaks OpenAI's API: vLLM, llama-server, a cluster's gateway. An
// [Upstream] is an engine.Generator.
//
// What OpenAI's API has no word for is said in the words of vLLM and llama-server where the server is one of them, and
// refused with an engine.FieldError elsewhere: nothing that a caller asked for is dropped silently. Prompts are rendered and
// tokenized where the server offers that; scores no such server gives. Both errors are errors.ErrUnsupported.
//
// Each generation has one goroutine, which ends with its stream.
package upstream
