package answer

import "errors"

// Errors of this package; those of the retriever and of the models come through wrapped.
var (
	// ErrConfig: a Config is out of range; the text names the fields.
	ErrConfig = errors.New("bad answer configuration")
	// ErrNoQuestion: the conversation's last message is not a user's question.
	ErrNoQuestion = errors.New("the last message must be the user's question")
	// ErrDocumentChanged: a document was replaced or deleted while it was being quoted; ask again.
	ErrDocumentChanged = errors.New("a document changed while it was being quoted: ask again")
)
