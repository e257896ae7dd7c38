// Package server is quipu's HTTP side: it wires the dialects' routes, what surrounds every request (request id, access
// line, metrics, recovery, guard against foreign pages, deadlines for slow peers), probes, and an orderly end.
//
// The rooms below it: openai is a dialect, with its wire types and routes; dispatch brings what any dialect was asked to the
// models and the documents; fault is the one table from an error to what a client is told; strict reads JSON bodies; sse
// writes event streams; access holds what is written down about a request.
//
// net/http runs one goroutine a connection. A request's handler runs in it, and beside it at most the heartbeat of its
// stream. When the client goes away the request's context ends, and with it the generation.
//
//	s, err := server.New(server.Default(), server.Deps{
//		Models: dispatch.Models{Chats: []dispatch.Chat{{Generator: generator, Answerer: answerer}}},
//		Stores: base,
//		Log:    log,
//	})
//	…
//	err = s.Serve(ctx, listener)
package server
