// Which connections are redirected, and that every byte arrives, in order.
#include "redirect.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace weir::bpf_test {
namespace {

using Clock = std::chrono::steady_clock;

// What an application sends first, in so many sends.
struct Opening {
  const char* name;
  std::vector<std::string> sends;
  uint32_t mode = WEIR_MODE_L7;
  uint32_t pod_flags = WEIR_POD_IPV6 | WEIR_POD_REDIRECT;
  weir_path path = WEIR_PATH_TCP;
};

const std::string kPrefaceText(kPreface);

const Opening kOpenings[] = {
    {.name = "preface", .sends = {kPrefaceText, "more"}, .path = WEIR_PATH_REDIRECT},
    {.name = "preface_and_more", .sends = {kPrefaceText + std::string(100'000, 'x'), "y"}, .path = WEIR_PATH_REDIRECT},
    {.name = "preface_in_two_sends", .sends = {kPrefaceText.substr(0, 23), kPrefaceText.substr(23), "more"}},
    {.name = "preface_second", .sends = {"x", kPrefaceText}},
    {.name = "redis", .sends = {"*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"}},
    {.name = "http1", .sends = {"POST / HTTP/1.1\r\nHost: grpc-service\r\n\r\n", "body"}},
    {.name = "almost_a_preface", .sends = {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "more"}},
    {.name = "detected_port", .sends = {kPrefaceText, "more"}, .mode = WEIR_MODE_DETECT, .path = WEIR_PATH_UNDECIDED},
    {.name = "opted_out", .sends = {kPrefaceText, "more"}, .pod_flags = WEIR_POD_IPV6, .path = WEIR_PATH_UNDECIDED},
};

class Openings : public Redirection, public testing::WithParamInterface<std::tuple<Opening, Dialling>> {};

TEST_P(Openings, DecideThePathForBothDirections) {
  const auto& [opening, dialling] = GetParam();
  const base::SocketAddress service = address(dialling.service_ip, kServicePort);
  row_.flags = opening.pod_flags;
  write_pod();
  write_service(service, opening.mode);
  Ends ends = connect_to(service, dialling.family);
  std::string sent, got;
  for (const std::string& part : opening.sends) {
    ASSERT_TRUE(send_all(ends.client, part));
    sent += part;
    got += receive(ends.agent, part.size());
  }
  EXPECT_EQ(got, sent);
  const bool redirected = opening.path == WEIR_PATH_REDIRECT;
  EXPECT_EQ(received_by_tcp(ends.agent), redirected ? 0 : sent.size());
  EXPECT_EQ(maps_.redirected(ends.agent.get()).has_value(), redirected);
  EXPECT_EQ(counted(WEIR_STAT_REDIRECTED), redirected ? 1u : 0u);
  EXPECT_EQ(counted(WEIR_STAT_REDIRECT_TCP), opening.path == WEIR_PATH_TCP ? 1u : 0u);
  ASSERT_EQ(maps_.flows()->size(), 1u);
  EXPECT_EQ(maps_.flows()->front().redirected, redirected);

  ASSERT_TRUE(send_all(ends.agent, "the answer"));
  EXPECT_EQ(receive(ends.client, 10), "the answer");
  EXPECT_EQ(received_by_tcp(ends.client), redirected ? 0u : 10u);
}

INSTANTIATE_TEST_SUITE_P(Redirect, Openings,
                         testing::Combine(testing::ValuesIn(kOpenings), testing::ValuesIn(kDiallings)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" + std::get<1>(test.param).name;
                         });

using Redirect = Redirection;

TEST_F(Redirect, AgentThatSpeaksFirstUsesTcpForLife) {
  Ends ends = connect();
  ASSERT_TRUE(send_all(ends.agent, "220 hello\r\n"));
  EXPECT_EQ(receive(ends.client, 11), "220 hello\r\n");
  ASSERT_TRUE(send_all(ends.client, kPreface));
  EXPECT_EQ(receive(ends.agent, kPreface.size()), kPreface);
  ASSERT_TRUE(send_all(ends.agent, "more"));
  EXPECT_EQ(receive(ends.client, 4), "more");
  EXPECT_EQ(received_by_tcp(ends.client), 15u);
  EXPECT_EQ(received_by_tcp(ends.agent), 0u) << "the application's direction is its own";
}

// What a reader that makes no progress has in front of it.
std::string stalled_at(const base::Fd& from, const CheckedReader& reader, uint64_t sent) {
  char byte;
  const ssize_t waiting = recv(reader.socket().get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return "the reader stands at " + std::to_string(reader.position()) + " of " + std::to_string(sent) +
         (waiting > 0    ? ", bytes are there"
          : waiting == 0 ? ", at the end"
                         : std::string(", ") + strerror(errno)) +
         "; by TCP came " + std::to_string(received_by_tcp(reader.socket())) + ", to the sender " +
         std::to_string(received_by_tcp(from));
}

// Sends `total` bytes of the pattern, at most `window` ahead of the reader.
bool send_within(const base::Fd& from, const CheckedReader& reader, uint64_t total, uint64_t window) {
  Pattern pattern;
  std::mt19937 random(1);
  while (pattern.position() < total) {
    if (!send_all(from, pattern.next(1 + random() % 200'000))) return false;
    const auto until = Clock::now() + std::chrono::seconds(20);
    while (pattern.position() > reader.position() + window) {
      std::this_thread::yield();
      if (Clock::now() < until) continue;
      ADD_FAILURE() << stalled_at(from, reader, pattern.position());
      shutdown(from.get(), SHUT_RDWR);
      return false;
    }
  }
  return shutdown(from.get(), SHUT_WR) == 0;
}

TEST_F(Redirect, BulkBothWaysAtOnce) {
  constexpr uint64_t kBytes = 64 << 20, kWindow = 4 << 20;
  Ends ends = connect();
  ASSERT_TRUE(send_all(ends.client, kPreface));
  CheckedReader up(ends.agent, &maps_);
  ASSERT_TRUE(send_all(ends.agent, kPreface));
  CheckedReader down(ends.client, nullptr);
  bool up_sent = false;
  std::thread sender([&] { up_sent = send_within(ends.client, up, kBytes, kWindow); });
  EXPECT_TRUE(send_within(ends.agent, down, kBytes, kWindow));
  sender.join();
  EXPECT_TRUE(up_sent);
  EXPECT_EQ(up.finish(), "");
  EXPECT_EQ(down.finish(), "");
  EXPECT_LE(received_by_tcp(ends.agent), 1u) << "the FIN";
  EXPECT_LE(received_by_tcp(ends.client), 1u);
  EXPECT_GE(up.position(), kBytes);
  EXPECT_GE(down.position(), kBytes);
  EXPECT_EQ(counted(WEIR_STAT_REDIRECT_OVERRUN), 0u);
}

// A million; WEIR_TEST_MESSAGES is for an emulated machine, where they would take minutes.
int messages_wanted() {
  const char* fewer = std::getenv("WEIR_TEST_MESSAGES");
  if (!fewer) return 1'000'000;
  std::printf("WEIR_TEST_MESSAGES: %s messages instead of a million\n", fewer);
  return std::atoi(fewer);
}

// Without a window: now and then the sender is too far ahead, and goes on by TCP.
TEST_F(Redirect, AMillionMessagesOfRandomSizes) {
  const int wanted = messages_wanted();
  std::mt19937 random(2);
  std::geometric_distribution<size_t> size(1.0 / 200);
  int messages = 0;
  while (messages < wanted) {
    Ends ends = connect();
    CheckedReader reader(ends.agent, &maps_);
    ASSERT_TRUE(send_all(ends.client, kPreface));
    Pattern pattern;
    for (int i = 0; i < 50'000 && messages < wanted; ++i, ++messages)
      ASSERT_TRUE(send_all(ends.client, pattern.next(1 + size(random)))) << messages << ": " << strerror(errno);
    shutdown(ends.client.get(), SHUT_WR);
    ASSERT_EQ(reader.finish(), "");
    ASSERT_EQ(reader.position(), pattern.position());
  }
  EXPECT_EQ(messages, wanted);
  EXPECT_EQ(counted(WEIR_STAT_REDIRECTED), static_cast<uint64_t>((wanted + 49'999) / 50'000));
  RecordProperty("messages", messages);
  RecordProperty("overruns", static_cast<int>(counted(WEIR_STAT_REDIRECT_OVERRUN)));
}

// The first send races the hand-over: connect() without waiting, then send as soon as the kernel takes it.
TEST_F(Redirect, SendsRacingTheMomentOfEstablishment) {
  constexpr size_t kThreads = 4, kEach = 150, kBytes = 300;
  agent4_.reset();
  agent4_ = agent_listener(pod_, maps_, address("127.0.0.1", kListenerPort), kThreads * kEach);
  std::vector<base::Fd> sockets;
  for (size_t i = 0; i < kThreads * kEach; ++i) {
    sockets.push_back(pod_.socket(AF_INET));
    fcntl(sockets.back().get(), F_SETFL, O_NONBLOCK);
  }
  std::atomic<int> unsent = 0;
  const auto until = Clock::now() + std::chrono::seconds(10);
  const auto insist = [&](const base::Fd& socket, std::string_view bytes) {
    while (send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
      if (Clock::now() > until) return void(++unsent);
  };
  std::vector<std::thread> clients;
  for (size_t t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      for (size_t i = 0; i < kEach; ++i) {
        base::Fd& socket = sockets[t * kEach + i];
        dial(socket, kService4);
        insist(socket, kPreface);
        Pattern pattern;
        for (int part = 0; part < 3; ++part) insist(socket, pattern.next(kBytes / 3));
        socket.reset();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  ASSERT_EQ(unsent, 0);
  for (size_t i = 0; i < sockets.size(); ++i) {
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    Pattern pattern;
    ASSERT_EQ(receive(arrived.socket, kPreface.size()), kPreface);
    EXPECT_TRUE(pattern.matches(receive(arrived.socket, kBytes + 1)));
    EXPECT_EQ(pattern.position(), kBytes);
  }
  const uint64_t redirected = counted(WEIR_STAT_REDIRECTED), tcp = counted(WEIR_STAT_REDIRECT_TCP);
  EXPECT_EQ(redirected + tcp, sockets.size());
  EXPECT_GT(redirected, 0u);
  RecordProperty("redirected", static_cast<int>(redirected));
}

// No program sees the data of the SYN. What follows is a whole preface: redirected, it would be read first.
TEST_F(Redirect, DataOfTcpFastOpenMakesItTcp) {
  struct Case {
    const char* name;
    bool deferred;  // TCP_FASTOPEN_CONNECT: the first send() connects
  };
  const std::string early = "early data";
  uint64_t decided = 0;
  for (const Case& c : {Case{"MSG_FASTOPEN", false}, Case{"TCP_FASTOPEN_CONNECT", true}}) {
    SCOPED_TRACE(c.name);
    Ends ends;
    ends.client = pod_.socket(AF_INET);
    const int fd = ends.client.get(), on = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);  // or nothing of it would be redirected in any case
    ASSERT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &on, sizeof on), 0);
    ssize_t sent;
    if (c.deferred) {
      ASSERT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on), 0);
      ASSERT_EQ(dial(ends.client, kService4), 0);
      sent = send(fd, early.data(), early.size(), MSG_NOSIGNAL);
    } else {
      sockaddr_storage to{};
      const socklen_t size = kService4.to(to);
      sent = sendto(fd, early.data(), early.size(), MSG_FASTOPEN, reinterpret_cast<sockaddr*>(&to), size);
    }
    ASSERT_EQ(sent, static_cast<ssize_t>(early.size())) << strerror(errno);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    ASSERT_TRUE(send_all(ends.client, kPreface));
    EXPECT_EQ(receive(arrived.socket, early.size() + kPreface.size()), early + kPrefaceText);
    EXPECT_EQ(received_by_tcp(arrived.socket), early.size() + kPreface.size());
    EXPECT_EQ(counted(WEIR_STAT_REDIRECT_TCP), ++decided) << "it might have been redirected";
  }
  EXPECT_EQ(counted(WEIR_STAT_REDIRECTED), 0u);
}

TEST_F(Redirect, AnApplicationThatWaitsInTheKernelUsesTcp) {
  Ends ends;
  ends.client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(ends.client, kService4), 0);
  ends.agent = arrival().socket;
  ASSERT_TRUE(send_all(ends.client, kPreface));
  EXPECT_EQ(receive(ends.agent, kPreface.size()), kPreface);
  ASSERT_TRUE(send_all(ends.agent, "the answer"));
  EXPECT_EQ(receive(ends.client, 10), "the answer");
  EXPECT_EQ(received_by_tcp(ends.agent), kPreface.size());
  EXPECT_EQ(received_by_tcp(ends.client), 10u);
  EXPECT_EQ(counted(WEIR_STAT_REDIRECTED), 0u);
}

TEST_F(Redirect, HalfCloseKeepsWhatWasSent) {
  for (int i = 0; i < 200; ++i) {
    Ends ends = connect_redirected();
    const std::string request(30'000, 'q'), response(50'000, 'r');
    ASSERT_TRUE(send_all(ends.client, request));
    shutdown(ends.client.get(), SHUT_WR);
    EXPECT_EQ(receive(ends.agent, request.size() + 1), request) << "then the end";
    ASSERT_TRUE(send_all(ends.agent, response));
    shutdown(ends.agent.get(), SHUT_WR);
    EXPECT_EQ(receive(ends.client, response.size() + 1), response);
  }
}

TEST_F(Redirect, CloseAfterSendKeepsWhatWasSent) {
  for (int i = 0; i < 200; ++i) {
    Ends ends = connect_redirected();
    const std::string bytes(20'000, 'q');
    base::Fd &from = i % 2 ? ends.client : ends.agent, &to = i % 2 ? ends.agent : ends.client;
    ASSERT_TRUE(send_all(from, bytes));
    from.reset();
    EXPECT_EQ(receive(to, bytes.size() + 1), bytes);
  }
}

TEST_F(Redirect, ResetAfterSendKeepsWhatWasSent) {
  for (int i = 0; i < 200; ++i) {
    Ends ends = connect_redirected();
    const std::string bytes(20'000, 'q');
    base::Fd &from = i % 2 ? ends.client : ends.agent, &to = i % 2 ? ends.agent : ends.client;
    ASSERT_TRUE(send_all(from, bytes));
    abort_connection(from);
    EXPECT_EQ(receive(to, bytes.size()), bytes);
    // On a busy machine the reset goes by ksoftirqd, and comes after the bytes.
    pollfd told{to.get(), POLLIN, 0};
    EXPECT_EQ(poll(&told, 1, 1000), 1);
    char byte;
    EXPECT_EQ(recv(to.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(received_by_tcp(to), 0u);
  }
}

TEST_F(Redirect, SocketThatIsConnectedAgainDecidesAgain) {
  Ends ends = connect_redirected();
  ASSERT_EQ(disconnect(ends.client), 0);
  EXPECT_EQ(maps_.accounts().value(), 0u);
  ends.agent.reset();
  ASSERT_EQ(dial_without_blocking(ends.client, kService4), 0);
  ends.agent = arrival().socket;
  ASSERT_TRUE(send_all(ends.client, "PING\r\n"));
  EXPECT_EQ(receive(ends.agent, 6), "PING\r\n");
  EXPECT_EQ(received_by_tcp(ends.agent), 6u);
  ASSERT_EQ(disconnect(ends.client), 0);
  ends.agent.reset();
  ASSERT_EQ(dial_without_blocking(ends.client, kService4), 0);
  ends.agent = arrival().socket;
  ASSERT_TRUE(send_all(ends.client, kPreface));
  EXPECT_EQ(receive(ends.agent, kPreface.size()), kPreface);
  EXPECT_EQ(received_by_tcp(ends.agent), 0u);
}

struct Flood {
  const char* name;
  size_t message;
};

class Floods : public Redirection, public testing::WithParamInterface<Flood> {};

// A stopped agent, or an application that knows no window: what the kernel holds is bounded, then TCP makes it wait.
TEST_P(Floods, OfAReaderThatStandsStillGoBackToTcp) {
  const Flood& flood = GetParam();
  Ends ends = connect_redirected();
  fcntl(ends.client.get(), F_SETFL, O_NONBLOCK);
  Pattern sent;
  std::string_view rest;
  while (true) {
    if (rest.empty()) rest = sent.next(flood.message);
    const ssize_t n = send(ends.client.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0) break;
    rest.remove_prefix(static_cast<size_t>(n));
  }
  EXPECT_EQ(errno, EAGAIN) << "TCP makes it wait";
  const uint64_t total = sent.position() - rest.size();
  EXPECT_EQ(counted(WEIR_STAT_REDIRECT_OVERRUN), 1u);
  // Redirected bytes first, then those that came by TCP.
  Pattern got;
  EXPECT_TRUE(got.matches(receive(ends.agent, total)));
  EXPECT_EQ(got.position(), total);
  // Both bytes and messages have their price in the kernel's memory.
  const uint64_t by_tcp = received_by_tcp(ends.agent), redirected = total - by_tcp;
  EXPECT_GT(by_tcp, 0u);
  EXPECT_GT(redirected + redirected / flood.message * 1024, 7u << 20);
  EXPECT_LE(redirected + redirected / flood.message * 1024, 8u << 20);
  ASSERT_TRUE(send_all(ends.client, "for life"));
  EXPECT_EQ(receive(ends.agent, 8), "for life");
}

INSTANTIATE_TEST_SUITE_P(Redirect, Floods,
                         testing::Values(Flood{"tiny", 16}, Flood{"small", 100}, Flood{"large", 65'536}),
                         [](const auto& test) { return test.param.name; });

TEST_F(Redirect, AnAgentThatReadsAndSaysSoKeepsItUp) {
  for (size_t message : {13u, 200u, 30'000u}) {
    Ends ends = connect();
    ASSERT_TRUE(send_all(ends.client, kPreface));
    CheckedReader reader(ends.agent, &maps_);
    Pattern pattern;
    // Several times the limit, at their cost of 1 KiB a message.
    for (uint64_t cost = 0; cost < (64u << 20); cost += message + 1024) {
      ASSERT_TRUE(send_all(ends.client, pattern.next(message)));
      while (pattern.position() > reader.position() + 32 * message) std::this_thread::yield();
    }
    EXPECT_EQ(received_by_tcp(ends.agent), 0u) << message;
  }
  EXPECT_EQ(counted(WEIR_STAT_REDIRECT_OVERRUN), 0u);
}

TEST_F(Redirect, WindowUsedAtOnceIsNoOverrun) {
  Ends ends = connect_redirected();
  Pattern pattern;
  const std::string window(pattern.next(4 << 20));
  ASSERT_TRUE(send_all(ends.client, window));
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(send_all(ends.client, std::string(100, 'h'))) << "heads are not counted";
  EXPECT_EQ(counted(WEIR_STAT_REDIRECT_OVERRUN), 0u);
  EXPECT_EQ(receive(ends.agent, window.size()), window);
}

}  // namespace
}  // namespace weir::bpf_test
