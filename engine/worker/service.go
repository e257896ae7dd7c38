package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"google.golang.org/grpc"
)

// Model is what a worker has loaded: one of Generator, Embedder and Reranker is set.
type Model struct {
	Generator engine.Generator
	Embedder  engine.Embedder
	Reranker  engine.Reranker
	Close     func() error
}

// Loader loads the model that the front's settings name. When ctx ends, loading stops.
type Loader func(ctx context.Context, settings []byte, progress func(done float32), h engine.Hooks) (Model, error)

// farewell bounds the closing of a model whose front has gone.
const farewell = 10 * time.Second

// Serve serves one model to the front at the other end of conn until lifeline ends, which the front holds open for as long
// as it lives; then it closes the model.
func Serve(conn net.Conn, lifeline io.Reader, load Loader) error {
	s := &service{load: load, happenings: newHappenings()}
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(messageLimit), grpc.MaxSendMsgSize(messageLimit),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(connWindow))
	server.RegisterService(&description, s)
	l := &single{conn: make(chan net.Conn, 1), address: conn.LocalAddr(), closed: make(chan struct{})}
	l.conn <- conn
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	_, _ = io.Copy(io.Discard, lifeline) // however it ends
	closed := make(chan error, 1)
	go func() {
		server.Stop()
		closed <- errors.Join(<-served, s.close())
	}()
	select {
	case err := <-closed:
		return err
	case <-time.After(farewell):
		return errors.New("the model does not close")
	}
}

// single is a listener to whom one connection comes.
type single struct {
	conn    chan net.Conn
	address net.Addr
	closed  chan struct{}
	once    sync.Once
}

func (l *single) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return l.address }

// The calls. Both ends are of the same build, so that this table is the whole of the protocol's definition.
const (
	prefix       = "/quipu.Worker/"
	loadCall     = "Load"
	watchCall    = "Watch"
	generateCall = "Generate"
	healthCall   = "Health"
	scoreCall    = "Score"
	renderCall   = "Render"
	tokenizeCall = "Tokenize"
	embedCall    = "Embed"
	countCall    = "CountTokens"
	rerankCall   = "Rerank"
)

var description = grpc.ServiceDesc{
	ServiceName: "quipu.Worker",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: loadCall, ServerStreams: true, Handler: streaming((*service).open)},
		{StreamName: watchCall, ServerStreams: true, Handler: streaming((*service).watch)},
		{StreamName: generateCall, ServerStreams: true, Handler: streaming((*service).generate)},
	},
	Methods: []grpc.MethodDesc{
		unary(healthCall, func(*service, context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }),
		unary(scoreCall, func(s *service, ctx context.Context, asks []engine.ScoreAsk) ([]engine.Score, error) {
			return s.generator().Score(ctx, asks)
		}),
		unary(renderCall, func(s *service, ctx context.Context, r engine.Request) (engine.Prompt, error) {
			return s.generator().Render(ctx, &r)
		}),
		unary(tokenizeCall, func(s *service, ctx context.Context, text string) ([]engine.Token, error) {
			return s.generator().Tokenize(ctx, text)
		}),
		unary(embedCall, func(s *service, ctx context.Context, r reading) (e embedded, err error) {
			e.Rows, e.Read, err = s.embedder().EmbedCounted(ctx, r.Texts, r.Truncate)
			return e, err
		}),
		unary(rerankCall, func(s *service, ctx context.Context, r reading) (out reranked, err error) {
			out.Scores, out.Read, err = s.reranker().Rerank(ctx, r.Query, r.Texts, r.Truncate)
			return out, err
		}),
		unary(countCall, func(s *service, _ context.Context, texts []string) ([]int, error) {
			return s.embedder().CountTokens(texts)
		}),
	},
}

func unary[Q, A any](name string, call func(*service, context.Context, Q) (A, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(s any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var q Q
		if err := decode(&q); err != nil {
			return nil, err
		}
		value, err := call(s.(*service), ctx, q)
		return &reply[A]{value, pack(err)}, nil
	}}
}

func streaming[Q any](call func(*service, Q, grpc.ServerStream) error) grpc.StreamHandler {
	return func(s any, stream grpc.ServerStream) error {
		var q Q
		if err := stream.RecvMsg(&q); err != nil {
			return err
		}
		return call(s.(*service), q, stream)
	}
}

// service is the child's end of the calls.
type service struct {
	load       Loader
	happenings *happenings

	mu    sync.Mutex
	model Model
}

// open loads the model, once.
func (s *service) open(settings []byte, stream grpc.ServerStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.load(stream.Context(), settings, func(done float32) { _ = stream.SendMsg(&loading{Done: done}) }, s.happenings.hooks())
	if err != nil {
		return stream.SendMsg(&loading{Error: pack(err)})
	}
	s.model = m
	var info engine.Info
	switch {
	case m.Generator != nil:
		info = m.Generator.Info()
	case m.Embedder != nil:
		info = m.Embedder.Info()
	default:
		info = m.Reranker.Info()
	}
	return stream.SendMsg(&loading{Done: 1, Info: &info})
}

func (s *service) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model.Close == nil {
		return nil
	}
	return s.model.Close()
}

func (s *service) generator() engine.Generator {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model.Generator == nil {
		return none{}
	}
	return s.model.Generator
}

func (s *service) embedder() engine.Embedder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model.Embedder == nil {
		return none{}
	}
	return s.model.Embedder
}

func (s *service) reranker() engine.Reranker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model.Reranker == nil {
		return none{}
	}
	return s.model.Reranker
}

func (s *service) watch(_ struct{}, stream grpc.ServerStream) error {
	for {
		list, err := s.happenings.next(stream.Context())
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&list); err != nil {
			return err
		}
	}
}

// generate says first whether the request was taken, and then what comes of it.
func (s *service) generate(q submission, stream grpc.ServerStream) error {
	var r engine.Request
	if err := decoding.Unmarshal(q.Request, &r); err != nil {
		return err
	}
	r.Generated = q.Generated
	generation, err := s.generator().Generate(stream.Context(), &r)
	if sent := stream.SendMsg(&reply[engine.Event]{Error: pack(err)}); err != nil {
		return sent
	}
	defer generation.Close()
	for {
		event, err := generation.Recv(stream.Context())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if sent := stream.SendMsg(&reply[engine.Event]{event, pack(err)}); err != nil || sent != nil {
			return sent
		}
	}
}

// none is the model of a worker that has one of another kind.
type none struct{}

var errKind = fmt.Errorf("%w: the worker's model is of another kind", engine.ErrBackend)

func (none) Info() engine.Info { return engine.Info{} }
func (none) Generate(context.Context, *engine.Request) (*engine.Stream, error) {
	return nil, errKind
}
func (none) Score(context.Context, []engine.ScoreAsk) ([]engine.Score, error) { return nil, errKind }
func (none) Render(context.Context, *engine.Request) (engine.Prompt, error) {
	return engine.Prompt{}, errKind
}
func (none) Tokenize(context.Context, string) ([]engine.Token, error) { return nil, errKind }
func (none) Embed(context.Context, []string) ([][]float32, error)     { return nil, errKind }
func (none) EmbedCounted(context.Context, []string, bool) ([][]float32, int, error) {
	return nil, 0, errKind
}
func (none) Rerank(context.Context, string, []string, bool) ([]float32, int, error) {
	return nil, 0, errKind
}
func (none) CountTokens([]string) ([]int, error) { return nil, errKind }
