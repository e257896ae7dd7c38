// Package load reads files of many formats into structured text, one file of code a format.
//
// What comes out, [retrieval.Text], is the text that passages are cut from and citations quote: light Markdown without
// inline markup, so that a sentence reads as it does on the page. Plain text stays letter by letter. All input is
// hostile: size, nesting and length are limited, a broken file is a [retrieval.DocumentError] with a stable code, and
// never a crash.
//
//	l := load.New(load.Default())
//	text, err := l.Load("shipping.md", content)
//
// A [Loader] holds no state and is safe for concurrent use.
package load
