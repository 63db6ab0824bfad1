package main

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// raw passes messages that are bytes as they are, and leaves all others (health, reflection) to protobuf.
type raw struct{ encoding.CodecV2 }

func codec() raw { return raw{encoding.GetCodecV2("proto")} }

func (r raw) Marshal(message any) (mem.BufferSlice, error) {
	if bytes, ok := message.(*[]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(*bytes)}, nil
	}
	return r.CodecV2.Marshal(message)
}

func (r raw) Unmarshal(data mem.BufferSlice, message any) error {
	if bytes, ok := message.(*[]byte); ok {
		*bytes = data.Materialize()
		return nil
	}
	return r.CodecV2.Unmarshal(data, message)
}
