// first_rpc is a pod's first act as an RPC of grpc-go: it dials and calls as soon as it runs, then looks at the kernel's
// table of connections whether this one leads to a listener on loopback, as it does when weir has diverted it.
//
//	first_rpc ADDRESS:PORT
//
// Exit status: 0 diverted and answered, 1 the RPC failed, 3 answered past weir.
package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const limit = 10 * time.Second

// An established connection to 127.0.0.1, as /proc/net/tcp writes it.
var toLoopback = regexp.MustCompile(`(?m)^ *\d+: [0-9A-F:]+ 0100007F:[0-9A-F]{4} 01 `)

// The greeter takes and gives bytes.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (plain) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (plain) Name() string                       { return "proto" }

func call(target string) (string, error) {
	connection, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var answer []byte
	if err := connection.Invoke(ctx, "/weir.lab.Greeter/Hello", []byte{}, &answer); err != nil {
		return "", err
	}
	table, err := os.ReadFile("/proc/self/net/tcp")
	return string(table), err
}

func main() {
	table, err := call(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "first_rpc:", err)
		os.Exit(1)
	}
	if !toLoopback.MatchString(table) {
		fmt.Fprintf(os.Stderr, "first_rpc: past weir:\n%s", table)
		os.Exit(3)
	}
}
