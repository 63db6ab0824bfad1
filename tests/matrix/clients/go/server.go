package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const everything = 1 << 30

type server struct {
	name      string
	cancelled sync.Map // x-id of calls that their clients have cancelled
}

// serve runs until it is killed: NAME PORT [CERTIFICATE KEY]. Messages are bytes; methods of weir.Matrix:
//
//	Echo       x-echo comes back in headers, and in trailers as x-echo-trailer
//	Fail       FAILED_PRECONDITION with a message that needs percent-encoding
//	Sleep      no answer
//	Down       "COUNT SIZE": so many messages of that size, each filled with its number
//	Up         answers how many messages and bytes came, and their SHA-256
//	Both       each message comes back
//	Cancelled  "1" if the Both with that x-id has been cancelled
//
// All send x-server, its name, x-connection, the connection's number there, and x-encoding, the request's compression.
// One that pings asks after a second without a frame whether the client is there, and closes if it does not say so.
func serve(arguments []string, pings bool) {
	secured := insecure.NewCredentials()
	if len(arguments) == 4 {
		var err error
		secured, err = credentials.NewServerTLSFromFile(arguments[2], arguments[3])
		check(err)
	}
	listener, err := net.Listen("tcp", ":"+arguments[1])
	check(err)
	var asks keepalive.ServerParameters // of none: after two hours
	if pings {
		asks = keepalive.ServerParameters{Time: time.Second, Timeout: 5 * time.Second}
	}
	check((&server{name: arguments[0]}).new(secured, asks).Serve(listener))
}

func (s *server) new(secured credentials.TransportCredentials, asks keepalive.ServerParameters) *grpc.Server {
	made := grpc.NewServer(
		grpc.KeepaliveParams(asks),
		grpc.Creds(secured),
		grpc.ForceServerCodecV2(codec()),
		grpc.MaxRecvMsgSize(everything),
		grpc.MaxSendMsgSize(everything),
		grpc.StatsHandler(&notes{}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 500 * time.Millisecond, PermitWithoutStream: true}),
	)
	handlers := map[string]func(grpc.ServerStream) error{
		"Echo": s.echo, "Fail": fail, "Sleep": sleep, "Down": down, "Up": up, "Both": s.both, "Cancelled": s.wasCancelled,
	}
	description := grpc.ServiceDesc{ServiceName: "weir.Matrix", HandlerType: (*any)(nil)}
	for name, handler := range handlers {
		description.Streams = append(description.Streams, grpc.StreamDesc{
			StreamName:    name,
			ServerStreams: true,
			ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error {
				noted, _ := stream.Context().Value(call{}).(*call)
				check(stream.SetHeader(metadata.Pairs("x-server", s.name, "x-connection", noted.connection, "x-encoding", noted.encoding)))
				return handler(stream)
			},
		})
	}
	made.RegisterService(&description, nil)
	checks := health.NewServer()
	healthpb.RegisterHealthServer(made, checks)
	reflection.Register(made)
	return made
}

func (s *server) echo(stream grpc.ServerStream) error {
	incoming, _ := metadata.FromIncomingContext(stream.Context())
	if values := incoming.Get("x-echo"); len(values) == 1 {
		check(stream.SetHeader(metadata.Pairs("x-echo", values[0])))
		stream.SetTrailer(metadata.Pairs("x-echo-trailer", values[0]))
	}
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	return stream.SendMsg(&message)
}

func fail(grpc.ServerStream) error {
	return status.Error(codes.FailedPrecondition, "söme 100% \"message\"")
}

func sleep(stream grpc.ServerStream) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}

func down(stream grpc.ServerStream) error {
	var asked []byte
	if err := stream.RecvMsg(&asked); err != nil {
		return err
	}
	var count, size int
	if _, err := fmt.Sscanf(string(asked), "%d %d", &count, &size); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for number := range count {
		message := block(number, size)
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return nil
}

func up(stream grpc.ServerStream) error {
	said, err := sum(stream.RecvMsg)
	if err != nil {
		return err
	}
	answer := []byte(said)
	return stream.SendMsg(&answer)
}

func (s *server) both(stream grpc.ServerStream) error {
	incoming, _ := metadata.FromIncomingContext(stream.Context())
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			if errors.Is(err, io.EOF) && len(incoming.Get("x-id")) > 0 {
				// Node half-closes a stream before it resets it.
				select {
				case <-stream.Context().Done():
				case <-time.After(2 * time.Second):
				}
			} else if errors.Is(err, io.EOF) {
				return nil
			}
			if errors.Is(stream.Context().Err(), context.Canceled) {
				for _, id := range incoming.Get("x-id") {
					s.cancelled.Store(id, true)
				}
			}
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

func (s *server) wasCancelled(stream grpc.ServerStream) error {
	var id []byte
	if err := stream.RecvMsg(&id); err != nil {
		return err
	}
	answer := []byte("0")
	if _, heard := s.cancelled.Load(string(id)); heard {
		answer = []byte("1")
	}
	return stream.SendMsg(&answer)
}

// block is message `number` of a stream, of `size` bytes.
func block(number, size int) []byte {
	made := make([]byte, size)
	for i := range made {
		made[i] = byte(number)
	}
	return made
}

// sum says what came until the end of a stream.
func sum(receive func(any) error) (string, error) {
	messages, bytes, hash := 0, 0, sha256.New()
	for {
		var message []byte
		err := receive(&message)
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("%d messages, %d bytes, %x", messages, bytes, hash.Sum(nil)[:8]), nil
		}
		if err != nil {
			return "", err
		}
		messages++
		bytes += len(message)
		hash.Write(message)
	}
}

// call is what a call's context knows of it, under its own type.
type call struct{ connection, encoding string }

// notes numbers connections, and notes a call's connection and grpc-encoding.
type notes struct{ connections atomic.Int64 }

func (n *notes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, notes{}, strconv.FormatInt(n.connections.Add(1), 10))
}

func (n *notes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	connection, _ := ctx.Value(notes{}).(string)
	return context.WithValue(ctx, call{}, &call{connection: connection})
}

func (n *notes) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if headers, ok := event.(*stats.InHeader); ok {
		ctx.Value(call{}).(*call).encoding = headers.Compression
	}
}

func (n *notes) HandleConn(context.Context, stats.ConnStats) {}
