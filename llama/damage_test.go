package llama

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A damage is a model file that is wrong in one place.
type damage struct {
	what  string
	write func(path string) error
}

// TestDamagedFiles damages files in many places. Loading and using them must never end the process.
func TestDamagedFiles(t *testing.T) {
	for _, arch := range append(slices.Clip(tinyArchs), "adapter") { // in the meaning of the header: every key, every kind of tensor
		t.Run(arch, func(t *testing.T) { testDamaged(t, "tiny", arch) })
	}
	for _, name := range []string{chatModel, rerankModel} { // in its bytes
		t.Run(name, func(t *testing.T) { testDamaged(t, "model", modelFile(t, name)) })
	}
	t.Run(loraFile, func(t *testing.T) { testDamaged(t, "adapter", modelFile(t, loraFile), modelFile(t, chatModel)) })
}

// Assertions of llama.cpp come back as errors, where no other thread waits.
func TestAssertions(t *testing.T) {
	noOwners(t)
	p := DefaultModelParams()
	m := tiny("llama")
	m.set("llama.block_count", uint32(0))
	_, err := Load(t.Context(), m.write(t), p)
	wantError(t, err, ErrCorrupt)
	if text := err.Error(); !strings.Contains(text, "GGML_ASSERT") || strings.Contains(text, "/") {
		t.Errorf("it says %s", text)
	}

	m = tiny("gemma2")
	m.set("gemma2.attention.sliding_window_pattern", uint32(3)) // of two layers none sees everything
	broken := m.load(t)
	c := tinyContextOf(t, broken)
	b := newTestBatch(t, 4, 1)
	must(t, b.Add(5, 0, true, 0))
	must(t, c.Decode(t.Context(), b))
	must(t, c.Memory().Shift(0, 0, -1, 1))
	b.Clear()
	must(t, b.Add(5, 2, true, 0))
	wantError(t, c.Decode(t.Context(), b), ErrCompute)
	must(t, c.Close())
	fine := tinyContextOf(t, tiny("gemma2").load(t))
	b.Clear()
	must(t, b.Add(5, 0, true, 0))
	must(t, fine.Decode(t.Context(), b))
}

// testDamaged tries the damages that args name in child processes, each of which goes on until it dies.
func testDamaged(t *testing.T, args ...string) {
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	outcomes := map[string]int{}
	for next, ended := 0, false; !ended; {
		cmd := exec.Command(os.Args[0], append([]string{"damage-child", path, fmt.Sprint(next)}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		tried := ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			number, text, _ := strings.Cut(rest, " ")
			switch word {
			case "try":
				tried = text
				next, _ = strconv.Atoi(number)
			case "done":
				outcomes[outcome(text)]++
			case "end":
				ended = true
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("damage %d, %s: %v\n%s", next, tried, err, head(stderr.String(), 12))
			next++
		}
		if tried == "" && !ended {
			t.Fatalf("the child did nothing: %s", stderr.String())
		}
	}
	t.Log(outcomes)
}

// damageChild is the program of the child process.
func damageChild(args []string) int {
	path, try := args[0], tryModel
	first, _ := strconv.Atoi(args[1])
	var damages []damage
	switch args[2] {
	case "tiny":
		damages = tinyDamages(args[3])
	default:
		var err error
		if damages, err = byteDamages(args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if slices.Contains(args, "adapter") {
		source := args[len(args)-1]
		if source == "adapter" {
			source = path + ".base"
			if err := os.WriteFile(source, tiny("llama").bytes(), 0o644); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		base, err := Load(context.Background(), source, DefaultModelParams())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer base.Close()
		try = func(path string) string { return tryLoRA(base, path) }
	}
	for n, d := range damages[first:] {
		fmt.Println("try", first+n, d.what)
		if err := d.write(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Printf("done %d %.300q\n", first+n, try(path))
	}
	fmt.Println("end")
	return 0
}

// byteDamages changes bytes of a real file's header. Its weights are a hole in the file, all zero. QUIPU_TEST_DAMAGE asks
// for more of them, after a change of release or of the checks.
func byteDamages(source string) ([]damage, error) {
	g, err := ReadGGUFFile(source)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	header := make([]byte, g.Data)
	if _, err := io.ReadFull(f, header); err != nil {
		return nil, err
	}
	total := 60
	if n, err := strconv.Atoi(os.Getenv("QUIPU_TEST_DAMAGE")); err == nil {
		total = n
	}
	var damages []damage
	for n := range total {
		r := rand.New(rand.NewPCG(uint64(n), 42))
		b, size, what := slices.Clone(header), info.Size(), ""
		switch n % 6 {
		case 0: // cut off
			size = r.Int64N(info.Size())
			what = fmt.Sprintf("cut at %d", size)
			b = b[:min(size, int64(len(b)))]
		case 1: // one byte, near the start where the hyperparameters are
			at := r.IntN(min(2000, len(b)))
			b[at] = byte(r.Uint32())
			what = fmt.Sprintf("byte at %d", at)
		case 2: // one bit anywhere
			at := r.IntN(len(b))
			b[at] ^= 1 << r.IntN(8)
			what = fmt.Sprintf("bit at %d", at)
		case 3, 4: // a word that is often a length, a count or a type
			at := r.IntN(min(3000, len(b)-8))
			words := []uint64{0, 1, 1<<32 - 1, 1 << 31, 1<<63 - 1, 1 << 40, uint64(r.Uint32())}
			w := words[r.IntN(len(words))]
			k := 4 << r.IntN(2)
			for i := range k {
				b[at+i] = byte(w >> (8 * i))
			}
			what = fmt.Sprintf("%d bytes of %#x at %d", k, w, at)
		default: // near the end, where the tensors are described
			at := len(b) - 2 - r.IntN(min(20000, len(b)-2))
			b[at], b[at+1] = byte(r.Uint32()), byte(r.Uint32())
			what = fmt.Sprintf("two bytes at %d", at)
		}
		damages = append(damages, damage{what, func(path string) error {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				return err
			}
			return os.Truncate(path, size)
		}})
	}
	return damages, nil
}

// tinyDamages gives each key of a tiny model other values and types, adds keys that it does not have, and changes each
// tensor. One of twelve is tried, all of them with QUIPU_TEST_DAMAGE.
func tinyDamages(arch string) []damage {
	var damages []damage
	every, n := 12, len(arch)
	if os.Getenv("QUIPU_TEST_DAMAGE") != "" {
		every = 1
	}
	add := func(what string, change func(m *tinyModel)) {
		if n++; n%every != 0 {
			return
		}
		damages = append(damages, damage{what, func(path string) error {
			m := tiny(arch)
			change(m)
			return os.WriteFile(path, m.bytes(), 0o644)
		}})
	}
	base := tiny(arch)
	for _, k := range base.keys {
		add("no "+k.name, func(m *tinyModel) { m.keys = slices.Delete(m.keys, m.index(k.name), m.index(k.name)+1) })
		for _, v := range otherValues(k) {
			add(fmt.Sprintf("%s is %.60v (%T)", k.name, v, v), func(m *tinyModel) { m.set(k.name, v) })
		}
	}
	numbers := []any{uint32(0), uint32(1), uint32(3), uint32(5000), uint32(math.MaxInt32), uint32(math.MaxUint32), float32(math.NaN()), float32(-1), "x", "yarn", true, []uint32{7}, []int32{}}
	for _, name := range optionalKeys {
		name = strings.ReplaceAll(name, "%s", arch)
		for _, v := range numbers {
			if base.index(name) < 0 {
				add(fmt.Sprintf("with %s, %v (%T)", name, v, v), func(m *tinyModel) { m.set(name, v) })
			}
		}
	}
	for i, t := range base.tensors {
		if strings.Contains(t.name, "blk.1.") {
			continue // as in the first block
		}
		add("no "+t.name, func(m *tinyModel) { m.tensors = slices.Delete(m.tensors, i, i+1) })
		add(t.name+" renamed", func(m *tinyModel) { m.tensors[i].name = "output.weight" })
		for _, kind := range slices.Sorted(maps.Keys(tinyKinds)) {
			if t.shape[0]%tinyKinds[kind][1] == 0 {
				add(fmt.Sprintf("%s of type %d", t.name, kind), func(m *tinyModel) { m.tensors[i].kind = kind })
			}
		}
		for _, shape := range [][]uint64{{1}, {t.shape[0] * 2}, {t.shape[0], 1, 1, 2}, {t.shape[len(t.shape)-1], t.shape[0]}, append([]uint64{64}, t.shape[1:]...), {t.shape[0], 1 << 12}} {
			add(fmt.Sprintf("%s of shape %v", t.name, shape), func(m *tinyModel) { m.tensors[i].shape = shape })
		}
	}
	for _, name := range []string{"output.weight", "output.bias", "rope_freqs.weight", "blk.0.attn_qkv.weight", "blk.0.attn_q_norm.weight", "blk.99.attn_q.weight", "blk.0.ffn_gate_inp.weight", "cls.weight", "cls.output.weight", "blk.0.attn_output", "blk.-1.ffn_up.weight"} {
		add("with "+name, func(m *tinyModel) { m.tensor(name, 32, 4) })
	}
	return damages
}

// optionalKeys are metadata that llama.cpp reads when it is there.
var optionalKeys = []string{
	"%s.vocab_size", "%s.embedding_length_out", "%s.expert_count", "%s.expert_used_count", "%s.expert_group_count", "%s.nextn_predict_layers", "%s.pooling_type",
	"%s.logit_scale", "%s.decoder_start_token_id", "%s.decoder_block_count", "%s.attention.head_count_kv", "%s.attention.key_length", "%s.attention.value_length",
	"%s.attention.causal", "%s.attention.sliding_window", "%s.attention.sliding_window_pattern", "%s.attention.scale", "%s.attention.max_alibi_bias", "%s.attention.clamp_kqv",
	"%s.rope.dimension_count", "%s.rope.dimension_sections", "%s.rope.freq_base", "%s.rope.scaling.type", "%s.rope.scaling.factor", "%s.rope.scaling.original_context_length",
	"%s.attention.key_length_swa", "%s.attention.shared_kv_layers", "%s.classifier.output_labels", "%s.use_parallel_residual", "%s.final_logit_softcapping",
	"general.alignment", "general.file_type", "general.quantization_version", "split.count", "split.no", "split.tensors.count",
	"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
	"tokenizer.ggml.padding_token_id", "tokenizer.ggml.mask_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token",
	"tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.scores", "tokenizer.ggml.merges",
	"tokenizer.ggml.token_type_count", "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.suppress_tokens", "tokenizer.chat_template", "tokenizer.ggml.normalizer.lowercase",
}

// otherValues are what a key could be instead.
func otherValues(k tinyKey) []any {
	wrong := []any{"x", uint8(7), int64(-1), uint64(math.MaxUint64), float64(0.5), true, []uint32{1, 2, 3}, []string{"a", ""}, []float32{}}
	switch v := k.value.(type) {
	case uint32:
		return append(wrong, uint32(0), uint32(1), v-1, v+1, v/2, 2*v, uint32(513), uint32(1<<16), uint32(math.MaxInt32), uint32(math.MaxUint32))
	case int32, bool:
		return append(wrong, int32(-5), int32(math.MaxInt32), false)
	case float32:
		return append(wrong, float32(0), float32(-1), float32(math.NaN()), float32(math.Inf(1)), float32(1e30))
	case string:
		return append(wrong, "", v+"x", strings.Repeat("y", 70000), "llama", "bert", "t5", "gpt2", "rwkv", "plamo2", "gemma4", "none", "no_vocab", "mamba2", "gemma3n", "clip", "deepseek2",
			"phi3", "falcon", "gpt-4o", "qwen2", "llama-bpe", "exaone-moe", "\xff", "a\x00b", "{{", "{% for m in range(999999999) %}x{% endfor %}")
	case []string:
		return append(wrong, v[:len(v)/2], v[:1], append(slices.Clone(v), "more"), slices.Repeat([]string{""}, len(v)), slices.Repeat([]string{"\x00"}, len(v)), slices.Repeat([]string{"\xff\xfe"}, len(v)),
			slices.Insert(slices.Clone(v[:len(v)-1]), len(v)/2, "a b"), slices.Insert(slices.Clone(v[1:]), 0, strings.Repeat("long", 500)))
	case []int32:
		same := func(n int32) []int32 { return slices.Repeat([]int32{n}, len(v)) }
		return append(wrong, v[:len(v)/2], append(slices.Clone(v), 1), same(0), same(2), same(3), same(6), same(-1), same(math.MaxInt32))
	case []float32:
		same := func(f float64) []float32 { return slices.Repeat([]float32{float32(f)}, len(v)) }
		return append(wrong, v[:len(v)/2], append(slices.Clone(v), 1), same(0), same(math.NaN()), same(math.Inf(-1)))
	}
	return wrong
}

// tryModel uses a file as far as it goes and says how it ended.
func tryModel(path string) string {
	p := DefaultModelParams()
	p.Load = LoadMmap
	p.VocabOnly = true
	v, err := Load(context.Background(), path, p)
	if err != nil {
		return err.Error()
	}
	err = tryVocab(v)
	v.Close()
	if err != nil {
		return err.Error()
	}
	p.VocabOnly = false
	m, err := Load(context.Background(), path, p)
	if err != nil {
		return err.Error()
	}
	defer m.Close()
	for _, embeddings := range []bool{false, true} {
		if err := tryContext(m, embeddings); err != nil {
			return err.Error()
		}
	}
	return "fine"
}

func tryVocab(m *Model) error {
	v := m.Vocab()
	if v.Type() == VocabNone {
		return nil
	}
	for _, special := range []bool{false, true} {
		tokens, err := v.Tokenize("Hello <|im_end|> wörld\n\n 123 the\x00 hell", special, special)
		if err != nil {
			return err
		}
		for n := range min(v.Len(), 500) {
			tokens = append(tokens, Token(n))
			v.IsEOG(Token(n))
			if _, err := v.Text(Token(n)); err != nil {
				return err
			}
		}
		if _, err := v.Detokenize(tokens, !special, special); err != nil {
			return err
		}
	}
	s, err := NewSampler(m, Grammar(`root ::= [a-z ]* "!"`, "root"), DRY(1, 2, 1, 16, []string{"\n"}), TopK(20), Infill(), Greedy())
	if err == nil {
		var c Candidates
		c.Reset(make([]float32, v.Len()))
		if err = s.Apply(&c); err == nil {
			_ = s.Accept(c.Token())
		}
		s.Close()
	}
	source, ok := m.ChatTemplate("")
	if t, err := NewChatTemplate(source, ChatTokens{}); ok && err == nil {
		_, _ = t.Apply(ChatInput{Messages: user("Hi")})
		t.Close()
	}
	return nil
}

func tryContext(m *Model, embeddings bool) error {
	cp := DefaultContextParams()
	cp.ContextSize, cp.BatchSize, cp.UBatchSize, cp.Threads, cp.BatchThreads, cp.Sequences, cp.Embeddings = 256, 8, 8, 2, 2, 2, embeddings
	c, err := NewContext(m, cp)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := NewBatch(4, 1)
	if err != nil {
		return err
	}
	defer b.Close()
	for i := range 3 {
		_ = b.Add(Token(i%max(1, m.Vocab().Len())), i, true, 0)
	}
	if m.Facts().HasEncoder && m.Facts().HasDecoder {
		if err := c.Encode(context.Background(), b); err != nil {
			return err
		}
	}
	if err := c.Decode(context.Background(), b); err != nil {
		return err
	}
	_, _ = c.Logits(-1)
	_, _ = c.SequenceEmbedding(0)
	if mem := c.Memory(); c.HasMemory() {
		state, err := c.SequenceState(nil, 0, 0)
		if err == nil {
			err = c.SetSequenceState(state, 1, 0)
		}
		if err != nil {
			return err
		}
		_ = mem.Shift(0, 1, -1, 2)
		b.Clear()
		_ = b.Add(0, mem.PosMax(0)+1, true, 0)
		return c.Decode(context.Background(), b)
	}
	return nil
}

func tryLoRA(base *Model, path string) string {
	l, err := base.LoadLoRA(path)
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	cp := DefaultContextParams()
	cp.ContextSize, cp.BatchSize, cp.UBatchSize, cp.Threads, cp.BatchThreads = 256, 8, 8, 1, 1
	c, err := NewContext(base, cp)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if err := c.SetLoRA(AppliedLoRA{l, 1}); err != nil {
		return err.Error()
	}
	b, _ := NewBatch(2, 1)
	defer b.Close()
	_ = b.Add(1, 0, true, 0)
	if err := c.Decode(context.Background(), b); err != nil {
		return err.Error()
	}
	return "fine"
}

// outcome groups messages by their sentinel.
func outcome(text string) string {
	for _, kind := range []error{ErrNotGGUF, ErrTruncated, ErrCorrupt, ErrMissingTensor, ErrUnsupportedArch, ErrInvalid, ErrUnsupported, ErrCompute, ErrBatch} {
		if strings.Contains(text, kind.Error()) {
			return kind.Error()
		}
	}
	return text
}

func head(text string, lines int) string {
	parts := strings.SplitN(text, "\n", lines+1)
	return strings.Join(parts[:min(lines, len(parts))], "\n")
}
