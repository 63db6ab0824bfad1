// The messages and stream events that any HTTP version produces. An exchange
// (one RPC) knows these and nothing of HTTP/2: it is given a Stream, sends
// through it, and hears of the other end through StreamEvents.
//
// Who owns what: the connection owns the Stream. The user holds it from on_stream()
// or open() until release() or until on_reset() returns, whichever is first;
// afterwards the pointer is dead. Inside any event the user may call any
// function of this or another stream, release() included.
//
// send_*() never calls back. Bytes that a send could not put on the wire at once
// (flow control, a full socket) wait in the stream, and on_sent() tells when they went.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "http/headers.h"

namespace weir::http {

// Why a stream ended before its messages were complete.
struct Reset {
  enum class Origin : uint8_t {
    peer,        // the peer sent RST_STREAM, or GOAWAY with a lower last stream id
    local,       // this end reset it: the peer broke the protocol on this stream
    connection,  // the connection ended: closed or failed (error_code 0), or by a connection error
  };
  Origin origin = Origin::peer;
  uint32_t error_code = 0;   // RFC 9113 section 7
  bool unprocessed = false;  // the peer vouches that it did no work (REFUSED_STREAM, GOAWAY), or it was never sent

  // The peer broke the protocol, on this stream or for the whole connection.
  bool broken_by_peer() const { return origin == Origin::local || (origin == Origin::connection && error_code != 0); }
};

class StreamEvents {
 public:
  virtual ~StreamEvents() = default;

  // A complete, valid header section: of the request, of an informational
  // response (1xx, end_stream false; more than one may come), or of the final response.
  virtual void on_headers(Headers& headers, bool end_stream) = 0;
  // Part of the body. Its bytes count against the receive window until consume().
  virtual void on_data(base::Slice data, bool end_stream) = 0;
  // The trailer section; the peer's side of the stream has ended.
  virtual void on_trailers(Headers& trailers) = 0;
  // The last event: the stream is released when it returns.
  virtual void on_reset(const Reset& reset) = 0;
  // `bytes` of body that had waited went out; see also Stream::all_sent().
  virtual void on_sent(size_t bytes) = 0;
};

class Stream {
 public:
  // Request, informational or final response head.
  virtual void send_headers(const Headers& headers, bool end_stream) = 0;
  // Returns how many bytes went at once; on_sent() accounts for the rest.
  virtual size_t send_data(base::Slice data, bool end_stream) = 0;
  // Ends this side; goes out after all data.
  virtual void send_trailers(const Headers& trailers) = 0;
  // Everything given to send_*() has been put on the wire (in frames, not acknowledged).
  virtual bool all_sent() const = 0;
  // Bytes of body and trailers that wait to be put there.
  virtual size_t unsent() const = 0;
  // Gives `bytes` of received body back to the peer's window (RFC 9113 section 6.9).
  virtual void consume(size_t bytes) = 0;
  // The user is done. A stream that is not complete in both directions is reset with
  // `error_code` (RFC 9113 section 7); no event follows.
  virtual void release(uint32_t error_code) = 0;

 protected:
  ~Stream() = default;
};

// Error codes that users of release() need (RFC 9113 section 7).
inline constexpr uint32_t kNoError = 0x0;
inline constexpr uint32_t kInternalError = 0x2;
inline constexpr uint32_t kRefusedStream = 0x7;
inline constexpr uint32_t kCancel = 0x8;

}  // namespace weir::http
