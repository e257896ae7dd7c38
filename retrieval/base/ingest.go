package base

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quipu-ai/quipu/retrieval"
	"github.com/quipu-ai/quipu/retrieval/chunk"
	"github.com/quipu-ai/quipu/retrieval/lexical"
	"github.com/quipu-ai/quipu/retrieval/load"
)

// together is how many documents are worked on at a time: some are read and cut while others are embedded, and the embedding
// model fills its batches from all of them. So many are in memory at most.
const together = 8

// Ingest reads files and folders into a store, which it creates if it is missing. Each document is committed on its own:
// what was reported is stored, whatever happens afterwards, and running again goes on where it stopped. A document that
// can't be ingested is reported as failed and the others go on; errors that concern all (disk full, a wrong embedding model,
// ctx) stop it. The report says what was done, in the order of the files, also when an error comes with it.
//
// Folders are walked in order of names; hidden files are left out. Links below a folder are not followed, and neither are pipes
// and devices opened: the report has them as skipped. progress may be nil.
func (b *Base) Ingest(ctx context.Context, in retrieval.Ingestion, progress func(retrieval.Progress)) (*retrieval.Report, error) {
	if b.config.Embedder == nil {
		return nil, retrieval.ErrNoEmbedder
	}
	name, err := checkName(in.Store)
	if err != nil {
		return nil, err
	}
	if err := in.Attributes.Validate(); err != nil {
		return nil, err
	}
	sources, err := walk(in.Paths)
	if err != nil {
		return nil, err
	}
	s, err := b.record.EnsureStore(ctx, name, b.config.Info)
	if err != nil {
		return nil, err
	}
	t, err := b.newTaker(ctx, s, in.Attributes)
	if err != nil {
		return nil, err
	}
	return t.run(ctx, sources, in.Texts, progress)
}

// taker takes documents into one store.
type taker struct {
	base       *Base
	store      retrieval.Store
	analyzer   *lexical.Analyzer
	chunking   chunk.Config
	recipe     string
	attributes retrieval.Attributes
	known      map[string]retrieval.Document // by file
	job        *jobRun                       // nil: nobody goes on with it after a kill
}

func (b *Base) newTaker(ctx context.Context, s retrieval.Store, attributes retrieval.Attributes) (*taker, error) {
	analyzer, chunking, err := b.reading(s.Settings)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.Name, err)
	}
	have, err := b.record.Documents(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	known := make(map[string]retrieval.Document, len(have))
	for _, d := range have {
		known[d.File] = d
	}
	return &taker{base: b, store: s, analyzer: analyzer, chunking: chunking, attributes: attributes, known: known,
		recipe: fmt.Sprintf("load %d, chunk %d %+v, lexical %d %s", load.Version, chunk.Version, chunking, lexical.Version, s.Settings.Language)}, nil
}

// reading is how a store's documents become terms and passages.
func (b *Base) reading(s retrieval.Settings) (*lexical.Analyzer, chunk.Config, error) {
	c := b.config.Chunk
	for _, size := range []struct {
		of  *int
		own int
	}{{&c.Target, s.Passages.Target}, {&c.Max, s.Passages.Max}, {&c.Overlap, s.Passages.Overlap}, {&c.Small, s.Passages.Small}} {
		if size.own > 0 {
			*size.of = size.own
		}
	}
	analyzer, err := lexical.New(s.Language)
	if err != nil {
		return nil, c, err
	}
	c = c.Within(b.config.Info.MaxInput)
	return analyzer, c, c.Validate()
}

// run takes all sources and texts, several at a time.
func (t *taker) run(ctx context.Context, sources []source, texts iter.Seq2[retrieval.Named, error], progress func(retrieval.Progress)) (*retrieval.Report, error) {
	r := &running{total: len(sources), progress: progress}
	began := time.Now()
	workers, inner := errgroup.WithContext(ctx)
	workers.SetLimit(together)
	seen := map[string]bool{}
	start := func(src source) bool {
		if seen[src.file] && src.err == nil {
			src.err = &retrieval.DocumentError{Code: retrieval.CodeDuplicate, Reason: "another document of this ingestion has the same name"}
		}
		seen[src.file] = true
		report := r.begin(src.file)
		if done, ok := t.job.finished(src); ok {
			report.done(done)
			return true
		}
		workers.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			// An error of another document doesn't break this one off: it is nearly done, or will meet the same error.
			result, err := t.one(ctx, src, report)
			if err != nil {
				return fmt.Errorf("%s: %w", src.file, err)
			}
			t.job.note(src, result)
			report.done(result)
			return nil
		})
		return inner.Err() == nil
	}
	err := func() error {
		for _, src := range sources {
			if !start(src) {
				return nil
			}
		}
		if texts == nil {
			return nil
		}
		for named, err := range texts {
			if err != nil {
				return err
			}
			r.more()
			if !start(source{file: named.File, text: &named.Text}) {
				return nil
			}
		}
		return nil
	}()
	if ended := workers.Wait(); err == nil {
		err = cmp.Or(ended, ctx.Err())
	}
	report := &retrieval.Report{Store: t.store.Name, Documents: []retrieval.DocumentResult{}, Seconds: time.Since(began).Seconds()}
	for _, result := range r.results {
		if result != nil {
			report.Add(*result)
		}
	}
	return report, err
}

// one takes in one document. The error is one that concerns all documents.
func (t *taker) one(ctx context.Context, src source, r *reporter) (retrieval.DocumentResult, error) {
	result := retrieval.DocumentResult{File: src.file, Status: retrieval.Failed}
	var refused *retrieval.DocumentError
	err := src.err
	var content []byte
	if err == nil && src.text == nil {
		content, err = t.base.read(src.path)
	}
	if err == nil {
		result.Status, result.Passages, err = t.take(ctx, src, content, r.embedded)
	}
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &refused):
		result.Status, result.Code, result.Reason = retrieval.Failed, refused.Code, refused.Reason
		if refused.Code == retrieval.CodeNoFile {
			result.Status = retrieval.Skipped
		}
		return result, nil
	}
	return result, err
}

func (b *Base) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &retrieval.DocumentError{Code: retrieval.CodeUnreadable, Reason: "it can't be opened: " + err.Error(), Err: err}
	}
	defer f.Close()
	return b.loader.Read(f)
}

// embedTogether is how many passages are embedded in one call: enough to fill batches, few enough to show that it goes on.
const embedTogether = 64

// take turns a document's bytes, or its text, into passages and commits them. embedded hears how many have their vectors.
func (t *taker) take(ctx context.Context, src source, content []byte, embedded func(int)) (retrieval.Status, int, error) {
	if src.text != nil {
		content = []byte(src.text.Title + "\x00" + src.text.Text)
	}
	sum := sha256.Sum256(content)
	d := retrieval.Document{
		ID: identity("doc", fmt.Sprint(t.store.ID), src.file), Store: t.store.Name, File: src.file, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(content)),
		Recipe: t.recipe, Attributes: t.attributes, IngestedAt: time.Now(),
	}
	if known := t.known[src.file]; known.SHA256 == d.SHA256 && known.Recipe == d.Recipe {
		if maps.Equal(known.Attributes, d.Attributes) {
			return retrieval.Unchanged, known.Passages, nil
		}
		if err := t.base.record.SetAttributes(ctx, known.ID, d.Attributes); err != nil {
			return retrieval.Failed, 0, err
		}
		return retrieval.Replaced, known.Passages, nil
	}
	text := src.text
	if text == nil {
		loaded, err := t.base.loader.Load(src.file, content)
		if err != nil {
			return retrieval.Failed, 0, err
		}
		text = &loaded
	}
	d.Title, d.MediaType = text.Title, text.MediaType
	c, err := t.content(ctx, d, *text, embedded)
	if err != nil {
		return retrieval.Failed, 0, err
	}
	if t.job != nil {
		c.Job, c.Source = t.job.id, src.key()
	}
	status, err := t.base.record.Put(ctx, t.store.ID, d, c)
	return status, len(c.Passages), err
}

// content cuts a document's text and embeds its passages.
func (t *taker) content(ctx context.Context, d retrieval.Document, text retrieval.Text, embedded func(int)) (retrieval.Content, error) {
	c := retrieval.Content{Text: text}
	pieces, err := chunk.Split(text, t.base.config.Embedder, t.chunking)
	if err != nil {
		return c, err
	}
	inputs := make([]string, len(pieces))
	for i, p := range pieces {
		p.Passage.ID = identity("psg", d.ID, d.SHA256, d.Recipe, fmt.Sprint(i))
		c.Passages = append(c.Passages, p.Passage)
		c.Terms = append(c.Terms, t.analyzer.Terms(p.Input))
		inputs[i] = p.Input
	}
	for some := range slices.Chunk(inputs, embedTogether) {
		vectors, err := t.base.config.Embedder.Embed(ctx, some)
		if err != nil {
			return c, fmt.Errorf("embed: %w", err)
		}
		c.Vectors = append(c.Vectors, vectors...)
		embedded(len(c.Vectors))
	}
	return c, nil
}

// identity makes an id out of what it stands for.
func identity(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return kind + "_" + hex.EncodeToString(h.Sum(nil))[:24]
}
