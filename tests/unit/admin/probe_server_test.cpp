#include "admin/probe_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "fixture.h"

namespace weir::admin {
namespace {

using base::MonotonicClock;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

class ProbeServerTest : public testing::Test {
 protected:
  ProbeServerTest() {
    sources_.stuck = [] { return std::nullopt; };
    sources_.ready = [this] {
      return ready_ ? Readiness{true, "", {"2 pods are listened in"}} : Readiness{false, "draining"};
    };
    metrics_.add("weir_test", "A test.", telemetry::MetricKind::gauge, [this] {
      std::this_thread::sleep_for(rendering_time_.load());
      return ++rendered_;
    });
    // A body that no socket's buffer takes at once.
    metrics_.add_family("weir_large", "Many.", telemetry::MetricKind::gauge, [] {
      std::vector<telemetry::Sample> samples;
      for (int i = 0; i < 100; ++i) samples.push_back({{{"n", std::string(80 << 10, 'x') + std::to_string(i)}}, 1});
      return samples;
    });
    sources_.metrics = &metrics_;
    for (port_ = static_cast<uint16_t>(20000 + ::getpid() % 20000); !server_; ++port_) {
      auto server = ProbeServer::start("127.0.0.1:" + std::to_string(port_), sources_);
      if (server) {
        server_ = std::move(*server);
        break;
      }
    }
  }

  // A connection from 127.0.0.`from`.
  base::Fd connect(int from = 1) const {
    base::Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in own{}, to{};
    own.sin_family = to.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(0x7f000000u + static_cast<uint32_t>(from));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port_);
    EXPECT_EQ(::bind(client.get(), reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
    EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return client;
  }
  static void say(const base::Fd& client, const std::string& text) {
    ::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  // All until the end; "late" if that takes longer than `patience`.
  static std::string hear(const base::Fd& client, milliseconds patience = milliseconds(20'000)) {
    std::string heard;
    const auto deadline = MonotonicClock::now() + patience;
    while (true) {
      pollfd waiting{client.get(), POLLIN, 0};
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - MonotonicClock::now());
      if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0) return "late";
      char bytes[65536];
      const ssize_t n = ::recv(client.get(), bytes, sizeof bytes, 0);
      if (n <= 0) return heard;
      heard.append(bytes, static_cast<size_t>(n));
    }
  }
  std::string ask(const std::string& request, int from = 1, milliseconds patience = milliseconds(20'000)) const {
    const base::Fd client = connect(from);
    say(client, request);
    return hear(client, patience);
  }
  std::string get(const std::string& path) const { return ask("GET " + path + " HTTP/1.1\r\nHost: weir\r\n\r\n"); }

  std::atomic<bool> ready_{true};
  std::atomic<int> rendered_{0};
  std::atomic<milliseconds> rendering_time_{milliseconds(0)};
  telemetry::Metrics metrics_;
  Sources sources_;
  uint16_t port_ = 0;
  std::unique_ptr<ProbeServer> server_;
};

TEST_F(ProbeServerTest, Answers) {
  EXPECT_THAT(get("/healthz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(get("/readyz"), HasSubstr("\r\n\r\nready\n2 pods are listened in\n"));
  ready_ = false;
  EXPECT_THAT(get("/readyz"), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(get("/readyz"), HasSubstr("\r\n\r\ndraining\n"));
  EXPECT_THAT(get("/metrics?name=x"), HasSubstr("weir_test 1\n"));
  EXPECT_THAT(get("/stats"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("GET /healthz HTTP/1.0\n\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ProbeServerTest, RefusesWhatIsNotARequest) {
  EXPECT_THAT(ask("POST /healthz HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  for (const char* bad : {"\r\n\r\n", "GET\r\n\r\n", "GET /healthz\r\n\r\n", "GET /healthz HTTP/2.0\r\n\r\n",
                          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " \r\n\r\n", "GET  /x HTTP/1.1\n\n \xff\x01"})
    EXPECT_THAT(ask(bad), StartsWith("HTTP/1.1 4")) << bad;
  EXPECT_THAT(ask("GET /healthz HTTP/1.1\r\nA: " + std::string(9000, 'a')), StartsWith("HTTP/1.1 400 "));
  EXPECT_GE(sources_.port->malformed, 5u);
}

TEST_F(ProbeServerTest, ARequestMayComeInPieces) {
  const base::Fd client = connect();
  for (const char c : std::string("GET /healthz HTTP/1.1\r\n\r\n")) say(client, std::string(1, c));
  EXPECT_THAT(hear(client), StartsWith("HTTP/1.1 200 "));
}

// With a thread for each, eight of these would have kept the kubelet waiting until it restarts the agent.
TEST_F(ProbeServerTest, ProbesAreAnsweredWhileOthersDripBytes) {
  std::vector<base::Fd> dripping;
  for (int i = 0; i < 64; ++i) dripping.push_back(connect(2 + i % 3));
  for (int round = 0; round < 10; ++round) {
    for (const base::Fd& client : dripping) say(client, "G");
    EXPECT_THAT(ask("GET /healthz HTTP/1.1\r\n\r\n", 1, milliseconds(1000)), StartsWith("HTTP/1.1 200 "));
    EXPECT_THAT(ask("GET /readyz HTTP/1.1\r\n\r\n", 1, milliseconds(1000)), StartsWith("HTTP/1.1 200 "));
  }
}

TEST_F(ProbeServerTest, AWholeRequestHasTwoSeconds) {
  const base::Fd client = connect();
  const auto began = MonotonicClock::now();
  pollfd waiting{client.get(), POLLIN, 0};
  do {
    ASSERT_LT(MonotonicClock::now() - began, seconds(10));
    say(client, "G");
  } while (::poll(&waiting, 1, 200) == 0);
  EXPECT_GE(MonotonicClock::now() - began, milliseconds(1900));
  EXPECT_EQ(sources_.port->slow, 1u);
}

TEST_F(ProbeServerTest, WhoHasMostConnectionsLosesThem) {
  const base::Fd slow = connect(1);  // older than all others, but the only one of its address
  say(slow, "GET /healthz ");
  std::vector<base::Fd> many;
  for (int i = 0; i < 300; ++i) many.push_back(connect(2));
  EXPECT_THAT(ask("GET /healthz HTTP/1.1\r\n\r\n", 3, milliseconds(1000)), StartsWith("HTTP/1.1 200 "));
  EXPECT_GE(sources_.port->crowded, 300u - 128u);
  EXPECT_EQ(hear(many.front()), "");
  say(slow, "HTTP/1.1\r\n\r\n");
  EXPECT_THAT(hear(slow), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ProbeServerTest, WhoDoesNotReadKeepsNobodyWaiting) {
  std::vector<base::Fd> deaf;
  for (int i = 0; i < 32; ++i) {
    deaf.push_back(connect(2));
    say(deaf.back(), "GET /metrics HTTP/1.1\r\n\r\n");
  }
  EXPECT_THAT(ask("GET /healthz HTTP/1.1\r\n\r\n", 1, milliseconds(1000)), StartsWith("HTTP/1.1 200 "));
  // They share what was rendered, and have it whole when they read at last.
  const std::string body = hear(deaf.back());
  EXPECT_EQ(std::stoul(body.substr(body.find("Content-Length: ") + 16)), body.size() - body.find("\r\n\r\n") - 4);
  EXPECT_LE(rendered_, 6);
}

TEST_F(ProbeServerTest, MetricsThatTakeTheirTimeKeepNobodyElseWaiting) {
  rendering_time_ = seconds(3);
  std::vector<base::Fd> scraping;
  for (int i = 0; i < 4; ++i) {
    scraping.push_back(connect());
    say(scraping.back(), "GET /metrics HTTP/1.1\r\n\r\n");
  }
  for (int i = 0; i < 5; ++i)
    EXPECT_THAT(ask("GET /healthz HTTP/1.1\r\n\r\n", 1, milliseconds(1000)), StartsWith("HTTP/1.1 200 "));
  for (const base::Fd& client : scraping) EXPECT_NE(hear(client).find("weir_test 1\n"), std::string::npos);
}

TEST_F(ProbeServerTest, EndsWhileClientsWait) {
  const base::Fd client = connect(), scraping = connect();
  say(client, "GET ");
  say(scraping, "GET /metrics HTTP/1.1\r\n\r\n");
  server_.reset();
  EXPECT_EQ(hear(client), "");
}

}  // namespace
}  // namespace weir::admin
