package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type client struct{ *grpc.ClientConn }

var cases = map[string]func(client, context.Context) (string, error){
	"unary": unary, "down": receiveAll, "up": sendAll, "both": both, "large": large, "metadata": echoMetadata, "cancel": cancel,
	"deadline": deadline, "status": fails, "unimplemented": unimplemented, "compressed": compressed, "health": checkHealth,
	"reflection": reflect, "keepalive": keepAlive, "pinged": pinged,
}

func play(target string, arguments []string) {
	secured := insecure.NewCredentials()
	if len(arguments) > 1 && arguments[0] == "--tls" {
		var err error
		secured, err = credentials.NewClientTLSFromFile(arguments[1], "")
		check(err)
		arguments = arguments[2:]
	}
	made, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(secured),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec()), grpc.MaxCallRecvMsgSize(everything), grpc.MaxCallSendMsgSize(everything)),
		// grpc-go takes less than ten seconds for ten.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	check(err)
	for _, name := range arguments {
		ctx, done := context.WithTimeout(context.Background(), 30*time.Second)
		said, err := cases[name](client{made}, ctx)
		if err != nil {
			said = fmt.Sprintf("failed with %d %s", status.Code(err), status.Convert(err).Message())
		}
		fmt.Fprintf(os.Stdout, "%s: %s\n", name, said)
		done()
	}
}

func (c client) unary(ctx context.Context, method string, message []byte, options ...grpc.CallOption) ([]byte, error) {
	if !strings.HasPrefix(method, "/") {
		method = "/weir.Matrix/" + method
	}
	var answer []byte
	err := c.Invoke(ctx, method, &message, &answer, options...)
	return answer, err
}

func (c client) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	if !strings.HasPrefix(method, "/") {
		method = "/weir.Matrix/" + method
	}
	return c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
}

// exchange sends a message and returns the one that comes for it.
func exchange(stream grpc.ClientStream, message []byte) ([]byte, error) {
	if err := stream.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var answer []byte
	err := stream.RecvMsg(&answer)
	return answer, err
}

// end half-closes and returns the call's status.
func end(stream grpc.ClientStream) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var nothing []byte
	if err := stream.RecvMsg(&nothing); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func unary(c client, ctx context.Context) (string, error) {
	echoed, servers := 0, map[string]bool{}
	for number := range 30 {
		var headers metadata.MD
		answer, err := c.unary(ctx, "Echo", block(number, 100), grpc.Header(&headers))
		if err != nil {
			return "", err
		}
		servers[strings.Join(headers.Get("x-server"), "")] = true
		if bytes.Equal(answer, block(number, 100)) {
			echoed++
		}
	}
	fmt.Printf("# %d servers\n", len(servers))
	return fmt.Sprintf("%d echoed", echoed), nil
}

func receiveAll(c client, ctx context.Context) (string, error) {
	stream, err := c.open(ctx, "Down")
	if err != nil {
		return "", err
	}
	asked := []byte("1000 1024")
	if err := errors.Join(stream.SendMsg(&asked), stream.CloseSend()); err != nil {
		return "", err
	}
	return sum(stream.RecvMsg)
}

func sendAll(c client, ctx context.Context) (string, error) {
	stream, err := c.open(ctx, "Up")
	if err != nil {
		return "", err
	}
	for number := range 1000 {
		message := block(number, 1024)
		if err := stream.SendMsg(&message); err != nil {
			return "", err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	var answer []byte
	err = stream.RecvMsg(&answer)
	return string(answer), err
}

func both(c client, ctx context.Context) (string, error) {
	stream, err := c.open(ctx, "Both")
	if err != nil {
		return "", err
	}
	echoed := 0
	for number := range 200 {
		answer, err := exchange(stream, block(number, 50))
		if err != nil {
			return "", err
		}
		if bytes.Equal(answer, block(number, 50)) {
			echoed++
		}
	}
	return fmt.Sprintf("%d echoed", echoed), end(stream)
}

func large(c client, ctx context.Context) (string, error) {
	message := block(7, 50<<20)
	answer, err := c.unary(ctx, "Echo", message)
	if bytes.Equal(answer, message) {
		return fmt.Sprintf("%d echoed", len(answer)), err
	}
	return fmt.Sprintf("%d changed", len(answer)), err
}

func echoMetadata(c client, ctx context.Context) (string, error) {
	var headers, trailers metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-echo", strings.Repeat("m", 8192))
	_, err := c.unary(ctx, "Echo", []byte("x"), grpc.Header(&headers), grpc.Trailer(&trailers))
	length := func(values []string) int { return len(strings.Join(values, "")) }
	return fmt.Sprintf("%d in headers, %d in trailers", length(headers.Get("x-echo")), length(trailers.Get("x-echo-trailer"))), err
}

func cancel(c client, ctx context.Context) (string, error) {
	id := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	call, stop := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "x-id", id))
	defer stop()
	stream, err := c.open(call, "Both")
	if err != nil {
		return "", err
	}
	answer, err := exchange(stream, block(1, 10))
	if err != nil || !bytes.Equal(answer, block(1, 10)) {
		return "silent", err
	}
	stop()
	for range 100 {
		heard, err := c.unary(ctx, "Cancelled", []byte(id))
		if err != nil || string(heard) == "1" {
			return "echoed, the server heard", err
		}
		time.Sleep(30 * time.Millisecond)
	}
	return "the server did not hear", nil
}

func deadline(c client, ctx context.Context) (string, error) {
	codes := make([]string, 20)
	for i := range codes {
		ctx, done := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err := c.unary(ctx, "Sleep", nil)
		done()
		codes[i] = fmt.Sprint(uint32(status.Code(err)))
	}
	return strings.Join(codes, " "), nil
}

func fails(c client, ctx context.Context) (string, error) {
	_, err := c.unary(ctx, "Fail", nil)
	return fmt.Sprintf("%d %s", uint32(status.Code(err)), status.Convert(err).Message()), nil
}

func unimplemented(c client, ctx context.Context) (string, error) {
	_, err := c.unary(ctx, "Nothing", nil)
	return fmt.Sprint(uint32(status.Code(err))), nil
}

func compressed(c client, ctx context.Context) (string, error) {
	var headers metadata.MD
	answer, err := c.unary(ctx, "Echo", block(1, 100_000), grpc.UseCompressor(gzip.Name), grpc.Header(&headers))
	return fmt.Sprintf("%d echoed, %s", len(answer), strings.Join(headers.Get("x-encoding"), "")), err
}

func checkHealth(c client, ctx context.Context) (string, error) {
	answer, err := c.unary(ctx, "/grpc.health.v1.Health/Check", nil)
	return hex.EncodeToString(answer), err
}

// reflect asks for the list of services.
func reflect(c client, ctx context.Context) (string, error) {
	stream, err := c.open(ctx, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	if err != nil {
		return "", err
	}
	answer, err := exchange(stream, []byte(":\x00"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(answer)), end(stream)
}

func keepAlive(c client, ctx context.Context) (string, error) {
	stream, err := c.open(ctx, "Both")
	if err != nil {
		return "", err
	}
	for _, pause := range []time.Duration{17 * time.Second, 0} {
		answer, err := exchange(stream, block(1, 10))
		if err != nil || !bytes.Equal(answer, block(1, 10)) {
			return "dead", err
		}
		time.Sleep(pause)
	}
	return "alive", end(stream)
}

func pinged(c client, ctx context.Context) (string, error) {
	connections := map[string]string{}
	for _, pause := range []time.Duration{8 * time.Second, 0} {
		for range 30 {
			var headers metadata.MD
			if _, err := c.unary(ctx, "Echo", block(1, 10), grpc.Header(&headers)); err != nil {
				return "", err
			}
			name, number := strings.Join(headers.Get("x-server"), ""), strings.Join(headers.Get("x-connection"), "")
			if earlier, met := connections[name]; met && earlier != number {
				return "another connection", nil
			}
			connections[name] = number
		}
		time.Sleep(pause)
	}
	return "alive", nil
}
