package engine

import "context"

// Backend is a model that an Engine drives. Decode, Logits, Copy, Remove and Close belong to the engine's loop, one
// goroutine; everything else is safe for concurrent use. The engine closes it.
type Backend interface {
	Text
	Info() Info
	Limits() Limits
	// Decode computes the rows in one batch. On an error nothing of the batch counts: the engine removes what the batch
	// may have left behind.
	Decode(ctx context.Context, rows []Row) error
	// Logits returns the logits of the i-th row of the last batch, which had Output set: one float a vocabulary entry,
	// valid until the next Decode.
	Logits(i int) ([]float32, error)
	// Copy shares the tokens at positions [0, n) of one sequence with another, which is empty.
	Copy(from, to, n int) error
	// Remove forgets the tokens of a sequence from position n on.
	Remove(sequence, n int) error
	// NewSampler returns a FieldError when a setting or the grammar is wrong.
	NewSampler(s Sampling, seed uint32, c Constraint) (Sampler, error)
	Close() error
}

// Placer is a backend whose KV can be taken out of the cache and put back at other positions. It belongs to the loop.
type Placer interface {
	// Lift copies the KV of the tokens at positions [from, to) of a sequence.
	Lift(sequence, from, to int) (State, error)
	// Place appends what was lifted, but for its first skip tokens, to a sequence, whose next position is at. What attention made
	// of the tokens before it stays in it. A state that the backend cannot read, of another model or damaged, is an error and
	// changes nothing.
	Place(s State, skip, sequence, at int) error
	// Moves tells whether Place takes another position than the one that a state was lifted from.
	Moves() bool
}

// Adapted is a backend with LoRA adapters, of which one computes at a time, or none.
type Adapted interface {
	// Adapters names them. Safe for concurrent use.
	Adapters() []string
	// Adapt says which computes from the next Decode on; "" is none. It belongs to the loop.
	Adapt(name string) error
}

// State is the KV of consecutive tokens, outside of the cache. Nobody writes to it.
type State struct {
	Bytes []byte
	From  int // position of the first token
	N     int // tokens
}

// Row is one token of a batch.
type Row struct {
	Token    Token
	Position int
	Sequence int
	Output   bool // compute its logits
}

// Limits are what a backend can hold.
type Limits struct {
	Cells     int  // tokens in the KV cache, all sequences together; shared ones count once
	Batch     int  // rows in one Decode
	Sequences int  // sequence ids are 0 to Sequences-1
	Running   int  // of them, ids below Running may be in a batch; the others only hold
	Whole     bool // a sequence can be forgotten and copied only as a whole: recurrent models
}

// Text is a model's vocabulary and chat template.
type Text interface {
	// Tokenize splits plain text: what reads like a control token in it is text. start puts before it what the model wants
	// at the start of a prompt (BOS).
	Tokenize(text string, start bool) ([]Token, error)
	// Piece is a token's bytes; control tokens have none, unless special asks for their text.
	Piece(t Token, special bool) []byte
	// Ends tells whether a token ends generation.
	Ends(t Token) bool
	// Render applies the chat template. Control tokens are the template's alone: in contents their texts are text. The
	// caller closes the result's parser.
	Render(chat *Chat, schema []byte) (*Rendered, error)
	// Schema turns a JSON schema into a grammar.
	Schema(schema []byte) (string, error)
}

// Rendered is a conversation as the model's template wants it.
type Rendered struct {
	Prompt     []Token
	Constraint Constraint
	Stop       []string
	Special    []Token // control tokens whose text the parser must see in the output
	Passages   []Range // where the documents are in the prompt, one behind the other
	Parser     Parser  // nil: the output is the content
}

// Range is the tokens [From, To) of a prompt.
type Range struct{ From, To int }

// splits tells whether a prompt cut off at n would end inside it.
func (r Range) splits(n int) bool { return r.From < n && n < r.To }

// Parser takes reasoning and tool calls out of a model's output. One goroutine uses it.
type Parser interface {
	// Add takes what was generated since the last call and returns what became certain.
	Add(text string) ([]Delta, error)
	// Finish ends the output and returns what remained.
	Finish() ([]Delta, error)
	// Recover gives up parsing after an error: what was not delivered becomes content, and so does what is added later.
	Recover() []Delta
	Close() error
}

// Delta is a piece of an answer as a Parser found it.
type Delta struct {
	Text      string
	Reasoning string
	ToolCall  *ToolCall
}

// Constraint is a grammar that the output obeys, from the first token or from a trigger on.
type Constraint struct {
	Grammar  string
	Begun    []Token // the end of the prompt that the grammar already covers
	Lazy     bool
	Patterns []string // triggers of a lazy grammar: expressions over the output
	Tokens   []Token  // triggers of a lazy grammar
}

// Sampler chooses tokens for one sequence. One goroutine uses it; the engine closes it.
type Sampler interface {
	// Sample chooses a token from logits, which it leaves as they are, and remembers it.
	Sample(logits []float32) (Token, error)
	// Accept remembers a token that was chosen before.
	Accept(t Token) error
	Close() error
}

// Forcer is a Sampler that knows what comes next where its grammar leaves no choice, so that it can be guessed.
type Forcer interface {
	// Forced returns up to n tokens that the grammar forces next, spelled as the vocabulary spells their text; nil when
	// there is a choice. Sample may still choose another spelling of the same text. The sampler stays as it is.
	Forced(n int) []Token
}
