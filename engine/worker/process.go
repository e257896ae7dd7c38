package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quipu-ai/quipu/engine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	messageLimit = math.MaxInt32
	// A window of the transport's holds thousands of events or vectors, so that nobody waits for it.
	window     = 1 << 20
	connWindow = 16 << 20
)

// SocketFD is the file in which a child finds its socket.
const SocketFD = 3

// process is one child.
type process struct {
	pid      int
	began    time.Time // its start, then when it was ready
	conn     *grpc.ClientConn
	cmd      *exec.Cmd
	lifeline io.Closer // the child ends when it is closed
	output   *output
	exited   chan struct{} // it has, and state is set
	state    error
	watched  chan struct{} // its hooks will not be called any more
	ending   atomic.Bool

	// Of the Worker's, under its mu; fixed once dead is closed.
	aboard  map[*flight]struct{}
	trial   *flight
	dead    chan struct{}
	culprit *flight // who was in it alone, or on trial
	onTrial bool
}

// launch starts a child and has it load its model.
func launch(ctx context.Context, c Config, progress func(float32)) (*process, engine.Info, error) {
	p, err := spawn(c)
	if err != nil {
		return nil, engine.Info{}, err
	}
	info, err := p.load(ctx, c.Settings, progress)
	if err == nil {
		err = p.watch(c.Hooks)
	}
	if err != nil {
		if errors.Is(broken(ctx, err), errLost) { // before it could say why
			_ = p.end()
			err = fmt.Errorf("%w: the worker died while it loaded the model: %w", engine.ErrBackend, p.why())
		}
		_ = p.end() // how it ends does not matter any more
		return nil, engine.Info{}, err
	}
	return p, info, nil
}

func spawn(c Config) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("worker: socket: %w", err)
	}
	defer theirs.Close()
	end, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("worker: socket: %w", err)
	}
	p := &process{began: time.Now(), output: &output{log: c.Log.With().Str("worker", c.Name).Logger()}, exited: make(chan struct{}),
		watched: make(chan struct{}), aboard: make(map[*flight]struct{}), dead: make(chan struct{})}
	close(p.watched)
	p.cmd = exec.Command(c.Command[0], c.Command[1:]...)
	p.cmd.Args[0] = os.Args[0]
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.SysProcAttr = attributes()
	p.cmd.WaitDelay = time.Second // for what the child started and left behind
	if p.lifeline, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker: %w", err), end.Close())
	}
	p.pid = p.cmd.Process.Pid
	p.conn, err = dial(end)
	go func() {
		p.state = p.cmd.Wait()
		close(p.exited)
	}()
	if err != nil {
		return nil, errors.Join(err, end.Close(), p.end())
	}
	return p, nil
}

// socketPair makes two connected sockets that no other child inherits.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "front"), nil
}

// dial makes a client of a connection that is there and never comes again.
func dial(end net.Conn) (*grpc.ClientConn, error) {
	once := make(chan net.Conn, 1)
	once <- end
	conn, err := grpc.NewClient("passthrough:///worker",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, io.ErrClosedPipe
			}
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(messageLimit), grpc.MaxCallSendMsgSize(messageLimit)),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithIdleTimeout(0), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
	if err == nil {
		conn.Connect()
	}
	return conn, err
}

// load has the child load its model.
func (p *process) load(ctx context.Context, settings []byte, progress func(float32)) (engine.Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx, p.conn, &grpc.StreamDesc{StreamName: loadCall, ServerStreams: true}, settings)
	if err != nil {
		return engine.Info{}, err
	}
	for {
		var l loading
		switch err := stream.RecvMsg(&l); {
		case err != nil && ctx.Err() != nil:
			return engine.Info{}, ctx.Err()
		case err != nil:
			return engine.Info{}, err
		case l.Error != nil:
			return engine.Info{}, l.Error.unpack()
		case l.Info != nil:
			return *l.Info, nil
		}
		progress(l.Done)
	}
}

// watch calls the hooks until the connection ends. A child that can't be reached any more is ended.
func (p *process) watch(h engine.Hooks) error {
	stream, err := open(context.Background(), p.conn, &grpc.StreamDesc{StreamName: watchCall, ServerStreams: true}, struct{}{})
	if err != nil {
		return err
	}
	p.watched = make(chan struct{})
	go func() {
		defer close(p.watched)
		for {
			var list []happening
			if err := stream.RecvMsg(&list); err != nil {
				if !p.ending.Load() {
					_ = p.cmd.Process.Kill() // no harm when it has ended
				}
				return
			}
			tell(h, list)
		}
	}()
	return nil
}

// end has the child end in order, or by force if it takes too long.
func (p *process) end() error {
	p.ending.Store(true)
	_ = p.lifeline.Close()
	select {
	case <-p.exited:
	case <-time.After(farewell + time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	err := p.state
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
	}
	<-p.watched
	return err
}

// why says what a process that has ended died of.
func (p *process) why() error {
	state := p.state
	if state == nil {
		state = errors.New("it ended by itself")
	}
	if said := p.output.said(); said != "" {
		return fmt.Errorf("%w: %s", state, said)
	}
	return state
}

// judge finds out who may be to blame for a death, if only one can be.
func (p *process) judge() {
	if p.culprit, p.onTrial = p.trial, p.trial != nil; p.onTrial {
		return
	}
	if len(p.aboard) == 1 {
		for f := range p.aboard {
			p.culprit = f
		}
	}
}
