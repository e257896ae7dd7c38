// Package dispatch brings what a dialect was asked to where it is answered: to a model alone, or to the documents.
//
// Every dialect maps its wire form to an [Ask] and renders the [Event] values that come back. Which model a name means,
// whether an answer is grounded, and what the access line says about it is decided here, once for all of them.
package dispatch
