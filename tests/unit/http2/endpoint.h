// Connections without a network for the tests: an Endpoint records what its
// Connection reports, exchange() carries bytes between two of them, and a
// ScriptedPeer speaks frame by frame to one.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http2/connection.h"

namespace weir::http2::testing {

using Fields = std::vector<std::pair<std::string, std::string>>;

inline http::Headers to_headers(const Fields& fields) {
  http::Headers headers;
  for (const auto& [name, value] : fields) headers.add(name, value);
  return headers;
}

inline Fields to_fields(const http::Headers& headers) {
  Fields fields;
  for (const http::Field f : headers) fields.emplace_back(f.name, f.value);
  return fields;
}

inline const Fields& grpc_request() {
  static const Fields fields = {{":method", "POST"},          {":scheme", "http"}, {":path", "/lab.Echo/Say"},
                                {":authority", "echo:80"},    {"te", "trailers"},  {"content-type", "application/grpc"},
                                {"user-agent", "grpc-test/1"}};
  return fields;
}

inline base::Slice slice_of(std::string_view text) {
  return base::Slice::copy_of({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

inline std::string text_of(const base::Slice& slice) {
  return std::string(reinterpret_cast<const char*>(slice.data()), slice.size());
}

// Records one stream's events.
class StreamLog : public http::StreamEvents {
 public:
  http::Stream* stream = nullptr;  // null once the contract says that the pointer is dead
  std::vector<Fields> heads;
  std::optional<Fields> trailers;
  std::string body;
  bool ended = false;
  std::optional<http::Reset> reset;
  size_t sent = 0;
  bool consume_at_once = true;
  std::function<void(StreamLog&)> after;  // called in every event but on_reset

  void on_headers(http::Headers& headers, bool end_stream) override {
    heads.push_back(to_fields(headers));
    ended = ended || end_stream;
    if (after) after(*this);
  }
  void on_data(base::Slice data, bool end_stream) override {
    body += text_of(data);
    ended = ended || end_stream;
    if (consume_at_once) stream->consume(data.size());
    if (after) after(*this);
  }
  void on_trailers(http::Headers& headers) override {
    trailers = to_fields(headers);
    ended = true;
    if (after) after(*this);
  }
  void on_reset(const http::Reset& why) override {
    reset = why;
    stream = nullptr;
  }
  void on_sent(size_t bytes) override {
    sent += bytes;
    if (after) after(*this);
  }
  void release(uint32_t code = 0) { std::exchange(stream, nullptr)->release(code); }
};

class Endpoint : public ConnectionEvents {
 public:
  explicit Endpoint(Role role, const Limits& limits = Limits()) : connection(role, limits, *this, base::Instant()) {}
  ~Endpoint() override {
    for (auto& log : logs) log->after = nullptr;
    connection.closed();
  }

  http::StreamEvents* on_stream(http::Stream& stream) override {
    StreamLog& log = add_log();
    log.stream = &stream;
    log.after = on_event;
    log.consume_at_once = consume_at_once;
    return &log;
  }
  void on_output() override { ++output_announcements; }
  void on_capacity() override { ++capacity_announcements; }
  void on_limit(Limit limit, LimitAction action) override { ++limits_hit[{limit, action}]; }

  StreamLog& open() {
    StreamLog& log = add_log();
    log.stream = connection.open(log);
    log.consume_at_once = consume_at_once;
    return log;
  }

  // Everything that wants to be written, as one string.
  std::string output() {
    std::string bytes;
    while (connection.wants_write()) {
      std::array<iovec, 64> vectors;
      const size_t n = connection.gather(vectors);
      size_t size = 0;
      for (size_t i = 0; i < n; ++i) {
        bytes.append(static_cast<const char*>(vectors[i].iov_base), vectors[i].iov_len);
        size += vectors[i].iov_len;
      }
      connection.written(size);
    }
    return bytes;
  }
  void input(std::string_view bytes, size_t at_a_time = SIZE_MAX) {
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = std::min(at_a_time, bytes.size() - at);
      connection.receive(slice_of(bytes.substr(at, n)), now);
      at += n;
    }
  }

  std::vector<std::unique_ptr<StreamLog>> logs;
  int output_announcements = 0;
  int capacity_announcements = 0;
  std::map<std::pair<Limit, LimitAction>, int> limits_hit;  // how often each acted
  bool consume_at_once = true;
  std::function<void(StreamLog&)> on_event;  // of streams that the peer opens
  base::Instant now;
  Connection connection;

 private:
  StreamLog& add_log() { return *logs.emplace_back(std::make_unique<StreamLog>()); }
};

// Carries bytes both ways until neither side has any.
inline void exchange(Endpoint& a, Endpoint& b, size_t at_a_time = SIZE_MAX) {
  while (a.connection.wants_write() || b.connection.wants_write()) {
    b.input(a.output(), at_a_time);
    a.input(b.output(), at_a_time);
  }
}

struct Frame {
  FrameHeader header;
  std::string payload;

  bool is(FrameType type) const { return header.is(type); }
  uint32_t u32(size_t at = 0) const { return read_u32(reinterpret_cast<const uint8_t*>(payload.data()) + at); }
};

inline std::string u32_text(uint32_t value) {
  std::string text(4, '\0');
  write_u32(reinterpret_cast<uint8_t*>(text.data()), value);
  return text;
}

inline std::string frame(FrameType type, uint8_t flags, uint32_t id, std::string_view payload) {
  std::string bytes(kFrameHeaderSize, '\0');
  write_frame_header(reinterpret_cast<uint8_t*>(bytes.data()), payload.size(), type, flags, id);
  return bytes.append(payload);
}

inline std::string setting(Setting id, uint32_t value) {
  return std::string{'\0', static_cast<char>(id)} + u32_text(value);
}

// The other end of an Endpoint's connection, written out frame by frame.
class ScriptedPeer {
 public:
  // Unless `handshake` is false, both sides have exchanged and acknowledged SETTINGS.
  explicit ScriptedPeer(Role engine_role, const Limits& limits = Limits(), bool handshake = true)
      : engine(engine_role, limits), server_(engine_role == Role::server) {
    if (!handshake) return;
    if (server_) send(kPreface);
    send(FrameType::settings, 0, 0, "");
    send(FrameType::settings, kFlagAck, 0, "");
    read();
  }

  void send(std::string_view bytes) { engine.input(bytes); }
  void send(FrameType type, uint8_t flags, uint32_t id, std::string_view payload) {
    send(frame(type, flags, id, payload));
  }
  std::string block(const Fields& fields) {
    const http::Headers headers = to_headers(fields);
    std::string bytes(encoder_.prepare(headers), '\0');
    bytes.resize(encoder_.encode(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
    return bytes;
  }
  void send_headers(uint32_t id, const Fields& fields, bool end_stream) {
    send(FrameType::headers, kFlagEndHeaders | (end_stream ? kFlagEndStream : 0), id, block(fields));
  }
  void send_data(uint32_t id, std::string_view body, bool end_stream) {
    send(FrameType::data, end_stream ? kFlagEndStream : 0, id, body);
  }

  // What the engine wants to send now.
  std::vector<Frame> read() {
    std::string bytes = engine.output();
    std::vector<Frame> frames;
    std::string_view rest = bytes;
    if (!server_ && !preface_read_) {
      preface_read_ = true;
      rest.remove_prefix(kPreface.size());
    }
    while (rest.size() >= kFrameHeaderSize) {
      Frame f;
      f.header = read_frame_header(reinterpret_cast<const uint8_t*>(rest.data()));
      f.payload = rest.substr(kFrameHeaderSize, f.header.length);
      rest.remove_prefix(kFrameHeaderSize + f.header.length);
      frames.push_back(std::move(f));
    }
    return frames;
  }
  Fields decode(const Frame& headers_frame) {
    http::Headers headers;
    decoder_.decode({reinterpret_cast<const uint8_t*>(headers_frame.payload.data()), headers_frame.payload.size()},
                    HeaderListLimits{1 << 20, 1000}, headers);
    return to_fields(headers);
  }
  // "GOAWAY code", "RST stream code", or "" for the last such frame in read(); other frames are dropped.
  std::string verdict() {
    std::string text;
    for (const Frame& f : read()) {
      if (f.is(FrameType::goaway)) text = "GOAWAY " + std::to_string(f.u32(4));
      if (f.is(FrameType::rst_stream))
        text = "RST " + std::to_string(f.header.stream_id) + " " + std::to_string(f.u32());
    }
    return text;
  }

  Endpoint engine;

 private:
  bool server_;
  bool preface_read_ = false;
  HpackEncoder encoder_{4096};
  HpackDecoder decoder_{4096};
};

}  // namespace weir::http2::testing
