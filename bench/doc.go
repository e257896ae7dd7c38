// Package bench puts load on a server that speaks OpenAI's HTTP API and measures what its clients see: how soon the first
// token comes, how evenly the others follow, how much is done in a second, what fails.
//
// A [Workload] is a plan of phases; in a phase, lanes of clients send requests, each client one after the other. All text is
// made by code from the seed: the n-th request of a workload is the same whoever sends it and whenever.
//
// [Run] owns all goroutines that it starts, one a client, and has ended them when it returns. Calls reach it over a channel,
// so nothing is shared.
//
//	c := bench.Default("http://127.0.0.1:8080", "short")
//	r, err := bench.Run(ctx, c)
//	fmt.Print(r.Table())
package bench
