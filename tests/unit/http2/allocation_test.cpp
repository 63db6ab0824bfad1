// The promise of the request path: in steady state an RPC allocates nothing. Every
// malloc of this test binary is counted, whoever calls it (operator new included).
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "http2/connection.h"

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

#ifdef WEIR_SANITIZER_ALLOCATES
// Of the sanitizers' runtime; GCC ships no header for it.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, size_t),
                                                         void (*free_hook)(const volatile void*));
namespace {
const int kHooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t) { allocations.fetch_add(1, std::memory_order_relaxed); },
    [](const volatile void*) {});
}  // namespace
#else
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
}
#endif

namespace weir::http2 {
namespace {

constexpr size_t kStreams = 50;
constexpr size_t kWarmUp = 5000;
constexpr size_t kCalls = 100000;

http::Headers fields(std::initializer_list<std::pair<const char*, const char*>> list) {
  http::Headers headers;
  for (const auto& [name, value] : list) headers.add(name, value);
  return headers;
}

base::Slice body_of(const std::vector<uint8_t>& bytes) { return base::Slice::borrowed(bytes); }

// Both ends of the load are alike: they hold a fixed set of calls and a wire.
class Server : public ConnectionEvents {
 public:
  struct Call : http::StreamEvents {
    Server* server = nullptr;
    http::Stream* stream = nullptr;
    void on_headers(http::Headers&, bool) override {}
    void on_data(base::Slice data, bool end_stream) override {
      stream->consume(data.size());
      if (!end_stream) return;
      stream->send_headers(server->head, false);
      stream->send_data(body_of(server->reply), false);
      stream->send_trailers(server->trailers);
      finish_if_sent();
    }
    void on_trailers(http::Headers&) override {}
    void on_reset(const http::Reset&) override {}
    void on_sent(size_t) override { finish_if_sent(); }
    void finish_if_sent() {
      if (!stream->all_sent()) return;
      stream->release(http::kNoError);
      server->free.push_back(this);
    }
  };
  Server() {
    for (Call& call : calls) {
      call.server = this;
      free.push_back(&call);
    }
  }
  http::StreamEvents* on_stream(http::Stream& stream) override {
    Call* call = free.back();
    free.pop_back();
    call->stream = &stream;
    return call;
  }
  void on_output() override {}
  void on_capacity() override {}
  void on_limit(Limit, LimitAction) override {}

  std::vector<Call> calls{kStreams};
  std::vector<Call*> free;
  http::Headers head = fields({{":status", "200"}, {"content-type", "application/grpc"}});
  http::Headers trailers = fields({{"grpc-status", "0"}});
  std::vector<uint8_t> reply;
  Connection connection{Role::server, Limits(), *this, base::Instant()};
};

class Client : public ConnectionEvents {
 public:
  struct Call : http::StreamEvents {
    Client* client = nullptr;
    http::Stream* stream = nullptr;
    void on_headers(http::Headers&, bool) override {}
    void on_data(base::Slice data, bool) override {
      client->received += data.size();
      stream->consume(data.size());
    }
    void on_trailers(http::Headers&) override {
      stream->release(http::kNoError);
      ++client->done;
      client->start(*this);
    }
    void on_reset(const http::Reset&) override {}
    void on_sent(size_t) override {}
  };
  void start(Call& call) {
    if (started == target) return;
    ++started;
    call.client = this;
    call.stream = connection.open(call);
    // A value of its own for every call, as trace ids have.
    id[35] = static_cast<char>('0' + started % 10);
    head.set("traceparent", {id.data(), id.size()});
    call.stream->send_headers(head, false);
    call.stream->send_data(body_of(request), true);
  }
  http::StreamEvents* on_stream(http::Stream&) override { return nullptr; }
  void on_output() override {}
  void on_capacity() override {}
  void on_limit(Limit, LimitAction) override {}

  std::array<char, 55> id = [] {
    std::array<char, 55> text;
    text.fill('a');
    return text;
  }();
  http::Headers head = fields({{":method", "POST"},
                               {":scheme", "http"},
                               {":path", "/lab.Echo/Say"},
                               {":authority", "echo.default.svc.cluster.local:80"},
                               {"te", "trailers"},
                               {"content-type", "application/grpc"},
                               {"grpc-timeout", "1S"}});
  std::vector<uint8_t> request;
  size_t started = 0, done = 0, target = 0, received = 0;
  Connection connection{Role::client, Limits(), *this, base::Instant()};
};

void carry(Connection& from, Connection& to) {
  while (from.wants_write()) {
    std::array<iovec, 64> out;
    const size_t n = from.gather(out);
    size_t total = 0;
    for (size_t i = 0; i < n; ++i) {
      const auto* bytes = static_cast<const uint8_t*>(out[i].iov_base);
      to.receive(base::Slice::borrowed({bytes, out[i].iov_len}), base::Instant());
      total += out[i].iov_len;
    }
    from.written(total);
  }
}

// Payloads that are copied, referenced, and (64 KB) that wait for budget and windows.
class AllocationTest : public ::testing::TestWithParam<std::pair<size_t, size_t>> {};

TEST_P(AllocationTest, NoneInSteadyState) {
  const auto [request, reply] = GetParam();
  const size_t calls = request + reply > 10000 ? kCalls / 20 : kCalls;
  Server server;
  Client client;
  client.request.assign(request, 'q');
  server.reply.assign(reply, 'r');
  std::vector<Client::Call> callers(kStreams);
  const auto run = [&](size_t n) {
    client.target += n;
    for (Client::Call& call : callers) client.start(call);
    while (client.connection.wants_write() || server.connection.wants_write()) {
      carry(client.connection, server.connection);
      carry(server.connection, client.connection);
    }
  };
  run(kWarmUp);
  const uint64_t before = allocations.load();
  EXPECT_GT(before, 0u) << "the counter does not count";
  run(calls);
  EXPECT_EQ(allocations.load() - before, 0u);
  EXPECT_EQ(client.done, kWarmUp + calls);
  EXPECT_EQ(client.received, client.done * reply);
}

INSTANTIATE_TEST_SUITE_P(Sizes, AllocationTest,
                         ::testing::Values(std::pair{5, 5}, std::pair{1024, 4096}, std::pair{100, 65536}));

}  // namespace
}  // namespace weir::http2
