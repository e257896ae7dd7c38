// Package contract tests quipu from outside: the built binary with real models, through the clients that people use. It is
// a module of its own, so that these clients stay out of the product's go.mod, and imports nothing of quipu's: what it
// checks is what scripts and programs may rely on.
//
// QUIPU_BIN names the binary (default ../bin/quipu), QUIPU_TEST_MODELS the folder of models. Without models the tests that
// need them are skipped; with CI=true or QUIPU_TEST_REQUIRE=1 they fail. QUIPU_THREADS=1 is faster on a machine that
// others use too.
//
//	QUIPU_TEST_MODELS=~/.cache/quipu/models go test ./...
package contract
