// Package openai speaks OpenAI's HTTP dialect: chat completions, embeddings and models.
//
// Its types are the wire forms and no more; what they ask for is done by package dispatch. A field that is not supported is
// refused by name. These are accepted and have no effect, by rule, because they only concern OpenAI's own service: user,
// safety_identifier, metadata, store, service_tier, prompt_cache_key, prompt_cache_retention. ignore_eos has none on a
// grounded answer, which ends when the question is answered.
//
// A grounded answer carries what it rests on as message.quipu, in a stream as delta.quipu of the chunk that has the
// finish_reason.
package openai
