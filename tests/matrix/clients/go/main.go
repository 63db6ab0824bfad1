// The matrix's gRPC server, and grpc-go's client of it (grpc_rows.py says what each case is):
//
//	matrix server|pinging NAME PORT [CERTIFICATE KEY]
//	matrix client TARGET [--tls CA] CASE...
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) > 2 && (os.Args[1] == "server" || os.Args[1] == "pinging") {
		serve(os.Args[2:], os.Args[1] == "pinging")
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "client" {
		play(os.Args[2], os.Args[3:])
		return
	}
	fmt.Fprintln(os.Stderr, "matrix server|pinging ... | client ...")
	os.Exit(64)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}
