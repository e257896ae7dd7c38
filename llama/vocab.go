package llama

// #include "core_shim.h"
import "C"

import (
	"fmt"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/unicode/norm"
)

// NoToken stands for a special token that a vocabulary does not have.
const NoToken Token = -1

// VocabType is the kind of a tokenizer.
type VocabType string

// The kinds of tokenizers.
const (
	VocabNone      VocabType = "none"
	VocabSPM       VocabType = "spm"
	VocabBPE       VocabType = "bpe"
	VocabWordPiece VocabType = "wpm"
	VocabUnigram   VocabType = "ugm"
	VocabRWKV      VocabType = "rwkv"
	VocabPLaMo2    VocabType = "plamo2"
	VocabUnknown   VocabType = "unknown"
)

// Specials are the tokens with a role; NoToken where the vocabulary has none.
type Specials struct {
	BOS, EOS, EOT, SEP, NL, PAD, Mask Token
	FIMPrefix, FIMSuffix, FIMMiddle   Token
	FIMPad, FIMRepo, FIMSep           Token
	CLS                               Token // the same token as BOS
	AddBOS, AddEOS, AddSEP            bool  // whether Tokenize with addSpecial adds them
}

// Vocab is a model's tokenizer. It is safe for concurrent use, and valid until the model is closed.
type Vocab struct {
	m        *Model
	ptr      *C.struct_llama_vocab
	n        int
	kind     VocabType
	specials Specials
	// spansWords: the pre-tokenizer's patterns match across single spaces.
	spansWords bool
	// decomposes: accents are dropped, for which letters and marks are taken apart.
	decomposes bool
	// deep is held by tokenizations on a stack of their own: one takes up to half a gigabyte.
	deep sync.Mutex
}

func newVocab(m *Model) *Vocab {
	v := &Vocab{m: m, ptr: C.llama_model_get_vocab(m.ptr), spansWords: m.meta["tokenizer.ggml.pre"] == "exaone-moe"}
	v.n = int(C.llama_vocab_n_tokens(v.ptr))
	switch C.llama_vocab_type(v.ptr) {
	case C.LLAMA_VOCAB_TYPE_NONE:
		v.kind = VocabNone
	case C.LLAMA_VOCAB_TYPE_SPM:
		v.kind = VocabSPM
	case C.LLAMA_VOCAB_TYPE_BPE:
		v.kind = VocabBPE
	case C.LLAMA_VOCAB_TYPE_WPM:
		v.kind = VocabWordPiece
	case C.LLAMA_VOCAB_TYPE_UGM:
		v.kind = VocabUnigram
	case C.LLAMA_VOCAB_TYPE_RWKV:
		v.kind = VocabRWKV
	case C.LLAMA_VOCAB_TYPE_PLAMO2:
		v.kind = VocabPLaMo2
	default:
		v.kind = VocabUnknown
	}
	v.decomposes = v.kind == VocabWordPiece && stripsAccents(m.meta)
	v.specials = Specials{
		BOS: Token(C.llama_vocab_bos(v.ptr)), EOS: Token(C.llama_vocab_eos(v.ptr)), EOT: Token(C.llama_vocab_eot(v.ptr)),
		SEP: Token(C.llama_vocab_sep(v.ptr)), NL: Token(C.llama_vocab_nl(v.ptr)), PAD: Token(C.llama_vocab_pad(v.ptr)),
		Mask:      Token(C.llama_vocab_mask(v.ptr)),
		FIMPrefix: Token(C.llama_vocab_fim_pre(v.ptr)), FIMSuffix: Token(C.llama_vocab_fim_suf(v.ptr)),
		FIMMiddle: Token(C.llama_vocab_fim_mid(v.ptr)), FIMPad: Token(C.llama_vocab_fim_pad(v.ptr)),
		FIMRepo: Token(C.llama_vocab_fim_rep(v.ptr)), FIMSep: Token(C.llama_vocab_fim_sep(v.ptr)),
		CLS:    Token(C.llama_vocab_bos(v.ptr)),
		AddBOS: bool(C.llama_vocab_get_add_bos(v.ptr)), AddEOS: bool(C.llama_vocab_get_add_eos(v.ptr)),
		AddSEP: bool(C.llama_vocab_get_add_sep(v.ptr)),
	}
	return v
}

// stripsAccents reads the settings of WordPiece's normalizer: a model that keeps the case keeps accents, unless it says
// otherwise.
func stripsAccents(meta map[string]string) bool {
	for _, key := range []string{"tokenizer.ggml.normalizer.strip_accents", "tokenizer.ggml.normalizer.lowercase"} {
		if value, ok := meta[key]; ok {
			return value == "true"
		}
	}
	return true
}

// check refuses a vocabulary that llama.cpp would tokenize with for ever: RWKV's tokenizer does not go on where no token
// matches, so all bytes must be tokens.
func (v *Vocab) check() error {
	if v.kind != VocabRWKV {
		return nil
	}
	var known [256]bool
	missing := len(known)
	var piece []byte
	for t := range Token(v.n) {
		var err error
		if piece, err = v.AppendPiece(piece[:0], t, true); err != nil {
			return err
		}
		if len(piece) == 1 && !known[piece[0]] {
			known[piece[0]] = true
			missing--
		}
	}
	if missing > 0 {
		return fail("load model", ErrCorrupt, "%d of 256 bytes are no tokens", missing)
	}
	return nil
}

// Len is the number of tokens.
func (v *Vocab) Len() int { return v.n }

// Type is the kind of the tokenizer; VocabNone for models without one, which cannot tokenize.
func (v *Vocab) Type() VocabType { return v.kind }

// Specials returns the tokens with a role.
func (v *Vocab) Specials() Specials { return v.specials }

// IsEOG tells whether the token ends a generation: end of text, of turn, of message.
func (v *Vocab) IsEOG(t Token) bool { return v.test(t, isEOG) }

// IsControl tells whether the token is a control token, without text of its own.
func (v *Vocab) IsControl(t Token) bool { return v.test(t, isControl) }

// Controls lists the tokens that Tokenize reads in a text only where it parses special tokens: control tokens, and the one
// for the unknown.
func (v *Vocab) Controls() ([]Token, error) {
	if err := v.use(); err != nil {
		return nil, err
	}
	defer v.m.mu.RUnlock()
	var controls []Token
	for t := range Token(v.n) {
		if C.llama_vocab_get_attr(v.ptr, C.llama_token(t))&(C.LLAMA_TOKEN_ATTR_CONTROL|C.LLAMA_TOKEN_ATTR_UNKNOWN) != 0 {
			controls = append(controls, t)
		}
	}
	return controls, nil
}

type question int

const (
	isEOG question = iota
	isControl
)

func (v *Vocab) test(t Token, q question) bool {
	if v.use(t) != nil {
		return false
	}
	defer v.m.mu.RUnlock()
	if q == isEOG {
		return bool(C.llama_vocab_is_eog(v.ptr, C.llama_token(t)))
	}
	return bool(C.llama_vocab_is_control(v.ptr, C.llama_token(t)))
}

// use keeps the model open until the caller unlocks m.mu, when it returns nil.
func (v *Vocab) use(tokens ...Token) error {
	v.m.mu.RLock()
	err := error(nil)
	switch {
	case v.m.ptr == nil:
		err = fail("vocabulary", ErrClosed, "")
	case v.kind == VocabNone:
		err = fail("vocabulary", ErrUnsupported, "the model has no tokenizer")
	default:
		for _, t := range tokens {
			if t < 0 || int(t) >= v.n {
				err = fail("vocabulary", ErrToken, "%d is not in 0..%d", t, v.n-1)
				break
			}
		}
	}
	if err != nil {
		v.m.mu.RUnlock()
	}
	return err
}

// Tokenize splits text into tokens. addSpecial adds what the model wants around a text (BOS, EOS, CLS, SEP);
// parseSpecial reads special tokens that are written out in the text, so use it for templates and never for what users
// wrote. Bytes that are not UTF-8 are replaced by U+FFFD, as tokenizers know only characters; NUL bytes are kept.
// A text longer than MaxTokenizeBytes, or one with half a million characters in a row without a space, is ErrTextTooLong;
// texts with thousands of them are taken one after the other.
func (v *Vocab) Tokenize(text string, addSpecial, parseSpecial bool) ([]Token, error) {
	return v.AppendTokens(nil, text, addSpecial, parseSpecial)
}

// AppendTokens appends text's tokens to dst, as Tokenize does.
func (v *Vocab) AppendTokens(dst []Token, text string, addSpecial, parseSpecial bool) ([]Token, error) {
	if len(text) > MaxTokenizeBytes {
		return dst, fail("tokenize", ErrTextTooLong, "%d bytes; at most %d", len(text), MaxTokenizeBytes)
	}
	if !utf8.ValidString(text) {
		text = validUTF8(text)
	}
	if v.decomposes {
		// llama.cpp keeps the first part of each character alone, which for a Korean syllable is a third of it.
		text = norm.NFD.String(text)
	}
	var stack int
	if v.kind == VocabBPE {
		run := longestRun(text, v.spansWords)
		if run > maxRun {
			return dst, fail("tokenize", ErrTextTooLong, "%d characters that the tokenizer sees as one word; at most %d", run, maxRun)
		}
		if run > ownStackRun {
			stack = run*runStack + 1<<20
			v.deep.Lock()
			defer v.deep.Unlock()
		}
	}
	if err := v.use(); err != nil {
		return dst, err
	}
	defer v.m.mu.RUnlock()

	start := len(dst)
	room := len(text) + 4 // a token covers at least a byte, but for the added ones
	if v.kind != VocabBPE {
		room = len(text)/3 + 16
	}
	var e C.core_err
	for {
		dst = append(dst, make([]Token, room)...)
		n := C.core_tokenize(v.ptr, (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.int32_t(len(text)),
			(*C.llama_token)(unsafe.Pointer(unsafe.SliceData(dst[start:]))), C.int32_t(room), C.bool(addSpecial), C.bool(parseSpecial), C.size_t(stack), &e)
		switch {
		case e.kind != C.CORE_OK:
			return dst[:start], cFailure("tokenize", 0, &e, ErrInvalid)
		case n < 0:
			dst, room = dst[:start], int(-n)
		default:
			return dst[:start+int(n)], nil
		}
	}
}

// AppendContinued appends the tokens of a text that goes on behind other text: without BOS, and without the space that some
// tokenizers put before a text.
func (v *Vocab) AppendContinued(dst []Token, text string, parseSpecial bool) ([]Token, error) {
	if text != "" && (v.kind == VocabSPM || v.kind == VocabUnigram) {
		// No token has this character, so nothing grows together with it, and it takes the space.
		const before = "\U0010FFFF"
		alone, err := v.Tokenize(before, false, false)
		if err != nil {
			return dst, err
		}
		tokens, err := v.Tokenize(before+text, false, parseSpecial)
		if err != nil {
			return dst, err
		}
		if n := len(alone); len(tokens) >= n && slices.Equal(tokens[:n], alone) {
			return append(dst, tokens[n:]...), nil
		}
	}
	return v.AppendTokens(dst, text, false, parseSpecial)
}

// AppendLiteral appends, behind other text, the tokens of a text that reads like a control token, such that it is none.
// SentencePiece's pairs can grow into the token even where it is not parsed; then the text goes character by character.
func (v *Vocab) AppendLiteral(dst []Token, text string) ([]Token, error) {
	start := len(dst)
	dst, err := v.AppendContinued(dst, text, false)
	if err != nil || !slices.ContainsFunc(dst[start:], v.IsControl) {
		return dst, err
	}
	dst = dst[:start]
	for _, r := range text {
		if dst, err = v.AppendContinued(dst, string(r), false); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// MaxTokenizeBytes is the longest text that Tokenize takes.
const MaxTokenizeBytes = 64 << 20

// BPE tokenizers cut text with std::regex, which recurses once for each character of a match and takes some 320 bytes
// of stack for it: with 8 MiB the process ended at 26,000 letters, digits, signs or spaces in a row. Texts with longer
// runs than ownStackRun are tokenized in a thread with runStack bytes for each character.
const (
	ownStackRun = 4 << 10
	runStack    = 1 << 10
	maxRun      = 512 << 10
)

// longestRun is the most characters of two neighbouring runs of spaces and other characters, as patterns may match
// signs together with the line ends behind them; with spansWords it is the whole text.
func longestRun(text string, spansWords bool) int {
	if len(text) <= ownStackRun {
		return len(text)
	}
	if spansWords {
		return utf8.RuneCountInString(text)
	}
	longest, before, run, space := 0, 0, 0, false
	for _, r := range text {
		if s := r == ' ' || r >= '\t' && r <= '\r' || r > utf8.RuneSelf && unicode.IsSpace(r); s != space {
			before, run, space = run, 0, s
		}
		run++
		longest = max(longest, before+run)
	}
	return longest
}

func validUTF8(s string) string {
	b := make([]byte, 0, len(s)+8)
	for _, r := range s {
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// Detokenize turns tokens into text. removeSpecial leaves out the BOS and EOS that Tokenize added; renderSpecial writes
// special tokens out. The text of some tokens is part of a character only, so the result may not be valid UTF-8.
func (v *Vocab) Detokenize(tokens []Token, removeSpecial, renderSpecial bool) (string, error) {
	if len(tokens) == 0 {
		return "", nil
	}
	if err := v.use(tokens...); err != nil {
		return "", err
	}
	defer v.m.mu.RUnlock()
	var e C.core_err
	buf := make([]byte, len(tokens)*8+32)
	for {
		n := C.core_detokenize(v.ptr, (*C.llama_token)(unsafe.Pointer(&tokens[0])), C.int32_t(len(tokens)),
			(*C.char)(unsafe.Pointer(&buf[0])), C.int32_t(len(buf)), C.bool(removeSpecial), C.bool(renderSpecial), &e)
		switch {
		case e.kind != C.CORE_OK:
			return "", cFailure("detokenize", 0, &e, ErrInvalid)
		case n < 0:
			buf = make([]byte, -n)
		default:
			return string(buf[:n]), nil
		}
	}
}

// Piece returns the bytes of one token, which may be part of a character. renderSpecial writes a special token out;
// else its piece is empty.
func (v *Vocab) Piece(t Token, renderSpecial bool) ([]byte, error) {
	return v.AppendPiece(nil, t, renderSpecial)
}

// AppendPiece appends the bytes of a token to dst, as Piece returns them.
func (v *Vocab) AppendPiece(dst []byte, t Token, renderSpecial bool) ([]byte, error) {
	if err := v.use(t); err != nil {
		return dst, err
	}
	defer v.m.mu.RUnlock()
	start := len(dst)
	room := 32
	for {
		dst = append(dst, make([]byte, room)...)
		n := C.llama_token_to_piece(v.ptr, C.llama_token(t), (*C.char)(unsafe.Pointer(&dst[start])), C.int32_t(room), 0, C.bool(renderSpecial))
		if n >= 0 {
			return dst[:start+int(n)], nil
		}
		dst, room = dst[:start], int(-n)
	}
}

// Text returns a token as the vocabulary writes it, with its own escapes for spaces and bytes.
func (v *Vocab) Text(t Token) (string, error) {
	if err := v.use(t); err != nil {
		return "", err
	}
	defer v.m.mu.RUnlock()
	return C.GoString(C.llama_vocab_get_text(v.ptr, C.llama_token(t))), nil
}

// Score returns a token's score in the vocabulary, for tokenizers that have scores.
func (v *Vocab) Score(t Token) (float32, error) {
	if err := v.use(t); err != nil {
		return 0, err
	}
	defer v.m.mu.RUnlock()
	return float32(C.llama_vocab_get_score(v.ptr, C.llama_token(t))), nil
}

func (v *Vocab) String() string { return fmt.Sprintf("%s vocabulary of %d tokens", v.kind, v.n) }
