// Package servertest holds what the tests of the server's rooms serve: a real engine over the fake backend, and small
// stand-ins for documents and embeddings whose every answer is known.
package servertest
