// What the HTTP/2 engine itself costs: unary gRPC calls between a client and a
// server Connection in memory, no sockets; then where copying a payload beside its
// frame header stops being cheaper than a separate iovec.
//
//   http2_bench [calls]
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "http2/connection.h"

namespace {

using weir::base::Instant;
using weir::base::Slice;
using weir::http::Headers;
using weir::http2::Connection;
using weir::http2::Limits;
using weir::http2::Role;

constexpr size_t kStreams = 100;

// CPU time of this thread: other work on the machine does not count.
double cpu_nanoseconds() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

// Moves what one side wants to write to the other, in receive buffers of 16 KB as the agent has them.
class Wire {
 public:
  bool carry(Connection& from, Connection& to) {
    bool any = false;
    while (from.wants_write()) {
      std::array<iovec, 64> out;
      const size_t n = from.gather(out);
      size_t total = 0;
      for (size_t i = 0; i < n; ++i) {
        const auto* bytes = static_cast<const uint8_t*>(out[i].iov_base);
        for (size_t at = 0; at < out[i].iov_len;) {
          const size_t part = std::min<size_t>(out[i].iov_len - at, kSize - used_);
          std::memcpy(buffer_->data() + used_, bytes + at, part);
          used_ += part;
          at += part;
          if (used_ == kSize) flush(to);
        }
        total += out[i].iov_len;
      }
      from.written(total);
      flush(to);
      any = true;
    }
    return any;
  }

 private:
  static constexpr size_t kSize = 16384 - sizeof(weir::base::Buffer);
  void flush(Connection& to) {
    if (used_ == 0) return;
    const Slice slice(buffer_, buffer_->data(), static_cast<uint32_t>(used_));
    used_ = 0;
    buffer_ = weir::http2::pool::take_buffer(16384);
    to.receive(slice, Instant());
  }
  weir::base::Buffer* buffer_ = weir::http2::pool::take_buffer(16384);
  size_t used_ = 0;
};

Headers headers(std::initializer_list<std::pair<const char*, const char*>> fields) {
  Headers h;
  for (const auto& [name, value] : fields) h.add(name, value);
  return h;
}

class Server : public weir::http2::ConnectionEvents {
 public:
  explicit Server(const std::string& reply) : reply_(reply) {}
  struct Call : weir::http::StreamEvents {
    Server* server = nullptr;
    weir::http::Stream* stream = nullptr;
    void on_headers(Headers&, bool) override {}
    void on_data(Slice data, bool end) override {
      stream->consume(data.size());
      if (!end) return;
      stream->send_headers(server->head_, false);
      stream->send_data(
          Slice::borrowed({reinterpret_cast<const uint8_t*>(server->reply_.data()), server->reply_.size()}), false);
      stream->send_trailers(server->trailers_);
      if (stream->all_sent()) finish();
    }
    void on_trailers(Headers&) override {}
    void on_reset(const weir::http::Reset&) override { server->free_.push_back(this); }
    void on_sent(size_t) override {
      if (stream->all_sent()) finish();
    }
    void finish() {
      stream->release(0);
      server->free_.push_back(this);
    }
  };
  weir::http::StreamEvents* on_stream(weir::http::Stream& stream) override {
    if (free_.empty()) free_.push_back(new Call());
    Call* call = free_.back();
    free_.pop_back();
    call->server = this;
    call->stream = &stream;
    return call;
  }
  void on_output() override {}
  void on_capacity() override {}
  void on_limit(weir::http2::Limit, weir::http2::LimitAction) override {}
  Connection connection{Role::server, Limits(), *this, Instant()};

 private:
  const std::string& reply_;
  Headers head_ = headers({{":status", "200"}, {"content-type", "application/grpc"}});
  Headers trailers_ = headers({{"grpc-status", "0"}, {"grpc-message", ""}});
  std::vector<Call*> free_;
};

class Client : public weir::http2::ConnectionEvents {
 public:
  // With `varying`, each call has a timeout and a trace id of its own.
  Client(const std::string& request, bool varying) : request_(request), heads_(varying ? 997 : 1, head()) {
    for (size_t i = 0; varying && i < heads_.size(); ++i) {
      char text[64];
      std::snprintf(text, sizeof text, "%zum", 1000 + i);
      heads_[i].add("grpc-timeout", text);
      std::snprintf(text, sizeof text, "00-%032zx-%016zx-01", i * 0x9e3779b97f4a7c15u, i * 0xc2b2ae3d27d4eb4fu);
      heads_[i].add("traceparent", text);
    }
  }
  struct Call : weir::http::StreamEvents {
    Client* client = nullptr;
    weir::http::Stream* stream = nullptr;
    void on_headers(Headers&, bool) override {}
    void on_data(Slice data, bool) override { stream->consume(data.size()); }
    void on_trailers(Headers&) override {
      stream->release(0);
      ++client->done;
      client->start(*this);
    }
    void on_reset(const weir::http::Reset&) override { std::abort(); }
    void on_sent(size_t) override {}
  };
  void start(Call& call) {
    if (started >= target) return;
    ++started;
    call.client = this;
    call.stream = connection.open(call);
    call.stream->send_headers(heads_[started % heads_.size()], false);
    call.stream->send_data(Slice::borrowed({reinterpret_cast<const uint8_t*>(request_.data()), request_.size()}), true);
  }
  void on_output() override {}
  void on_capacity() override {}
  void on_limit(weir::http2::Limit, weir::http2::LimitAction) override {}
  weir::http::StreamEvents* on_stream(weir::http::Stream&) override { std::abort(); }
  Connection connection{Role::client, Limits(), *this, Instant()};
  size_t done = 0, started = 0, target = 0;

 private:
  const std::string& request_;
  std::vector<Headers> heads_;

  static Headers head() {
    return headers({{":method", "POST"},
                    {":scheme", "http"},
                    {":path", "/helloworld.Greeter/SayHello"},
                    {":authority", "greeter.default.svc.cluster.local:50051"},
                    {"content-type", "application/grpc"},
                    {"user-agent", "grpc-go/1.60.0"},
                    {"te", "trailers"}});
  }
};

double round_trip(size_t size, bool varying, size_t calls) {
  const std::string body(size, 'x');
  Server server(body);
  Client client(body, varying);
  Wire wire;
  const auto run = [&](size_t n) {
    client.target += n;
    std::vector<Client::Call> callers(kStreams);
    for (Client::Call& call : callers) client.start(call);
    while (wire.carry(client.connection, server.connection) | wire.carry(server.connection, client.connection)) {
    }
    if (client.done != client.target) std::abort();
  };
  run(calls / 10 + kStreams);
  double best = 1e18;
  for (int round = 0; round < 3; ++round) {
    const double begin = cpu_nanoseconds();
    run(calls);
    best = std::min(best, (cpu_nanoseconds() - begin) / static_cast<double>(calls));
  }
  return best;
}

// Writes 16 frames of `size` bytes payload by one sendmsg, each payload copied behind its header or as an iovec.
double frame_cost(size_t size, bool copied) {
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) std::abort();
  constexpr size_t kFrames = 16;
  std::vector<uint8_t> source(16384 * kFrames), sink(1 << 20);
  double total = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    const double begin = cpu_nanoseconds();
    {
      weir::http2::Output output;
      for (size_t i = 0; i < kFrames; ++i) {
        weir::http2::write_frame_header(output.reserve(9), size, weir::http2::FrameType::data, 0, 1);
        output.commit(9);
        if (copied) {
          std::memcpy(output.reserve(size), source.data() + i * 16384, size);
          output.commit(size);
        } else {
          output.reference(Slice::borrowed({source.data() + i * 16384, size}));
        }
      }
      std::array<iovec, 128> out;
      const size_t n = output.gather(out);
      const ssize_t sent = writev(ends[0], out.data(), static_cast<int>(n));
      if (sent < 0) std::abort();
      output.written(static_cast<size_t>(sent));
    }
    total += cpu_nanoseconds() - begin;
    for (size_t left = kFrames * (size + 9); left > 0;)
      left -= static_cast<size_t>(read(ends[1], sink.data(), sink.size()));
  }
  close(ends[0]);
  close(ends[1]);
  return total / (kRounds * kFrames);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t calls = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 200000;
  std::printf("%-44s %8s\n", "unary call, both ends, 100 streams", "ns");
  for (const size_t size : {5, 100, 1024, 8192}) {
    std::printf("  %5zu bytes each way %23s %8.0f\n", size, "", round_trip(size, false, calls));
  }
  std::printf("  %5d bytes, trace id and timeout vary %6s %8.0f\n", 100, "", round_trip(100, true, calls));
  std::printf("%-26s %8s %8s\n", "sending a DATA frame", "copy", "iovec");
  for (const size_t size : {128, 512, 1024, 2048, 4096}) {
    std::printf("  %5zu bytes %16s %5.0f ns %5.0f ns\n", size, "", frame_cost(size, true), frame_cost(size, false));
  }
  return 0;
}
