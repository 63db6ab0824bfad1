#include "diversion.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <poll.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "inspect.h"

namespace weir::bpf_test {
namespace {

std::unique_ptr<Installed> shared;

}  // namespace

interception::Programs load_and_attach(const Node& node) {
  auto programs = interception::Programs::load(node.options());
  if (!programs) throw std::runtime_error(programs.error().message);
  if (auto attached = programs->attach(); !attached) throw std::runtime_error(attached.error().message);
  return std::move(programs).value();
}

Installed& installed() {
  if (!shared) shared = std::make_unique<Installed>();
  return *shared;
}

void uninstall_shared() { shared.reset(); }

base::Fd agent_listener(const Pod& pod, const interception::Maps& maps, const base::SocketAddress& at, int backlog) {
  auto socket = pod.netns().tcp_socket(at.ip.is_v4() ? AF_INET : AF_INET6);
  if (!socket) throw std::runtime_error(socket.error().message);
  if (int error = bind_to(*socket, at)) throw std::runtime_error("bind " + at.to_string() + ": " + strerror(error));
  if (listen(socket->get(), backlog) != 0) throw std::runtime_error("listen " + at.to_string());
  if (!maps.mark(socket->get(), WEIR_MARK_LISTENER, kGeneration)) throw std::runtime_error("mark " + at.to_string());
  return std::move(socket).value();
}

weir_pod enrolled_row() {
  weir_pod row{};
  row.generation = kGeneration;
  row.listener_port_be = htons(kListenerPort);
  row.flags = WEIR_POD_IPV6;
  row.heartbeat = kHeartbeat;
  uint32_t ip4 = base::IpAddress::parse(kPodIp4)->v4_be();
  std::memcpy(row.pod_ip4, &ip4, sizeof ip4);
  std::memcpy(row.pod_ip6, base::IpAddress::parse(kPodIp6)->bytes.data(), sizeof row.pod_ip6);
  return row;
}

void beat(const interception::Maps& maps, base::Duration ago, uint64_t generation) {
  const uint32_t slot = kHeartbeat;
  const base::Instant when = base::MonotonicClock::now() - ago;
  const weir_heartbeat last{generation, static_cast<uint64_t>(when.time_since_epoch().count())};
  if (bpf_map_update_elem(maps.heartbeats_fd(), &slot, &last, BPF_ANY) != 0) throw std::runtime_error("beat");
}

Arrival accept_one(std::initializer_list<const base::Fd*> agent, std::initializer_list<const base::Fd*> plain) {
  std::vector<pollfd> waiting;
  for (const auto* fd : agent) waiting.push_back({fd->get(), POLLIN, 0});
  for (const auto* fd : plain) waiting.push_back({fd->get(), POLLIN, 0});
  if (poll(waiting.data(), waiting.size(), 1000) <= 0) return {};
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (!(waiting[i].revents & POLLIN)) continue;
    return {i < agent.size() ? Where::agent : Where::plain,
            base::Fd(accept4(waiting[i].fd, nullptr, nullptr, SOCK_CLOEXEC))};
  }
  return {};
}

Diversion::Diversion() : maps_(installed().programs.maps()), pod_(installed().node), netns_(pod_.netns()) {
  agent4_ = agent_listener(pod_, maps_, address("127.0.0.1", kListenerPort));
  agent6_ = agent_listener(pod_, maps_, address("::1", kListenerPort));
  plain4_ = pod_.listen(kService4);
  plain6_ = pod_.listen(kService6);
  write_pod();
  beat(maps_);
  write_service(kService4, WEIR_MODE_L7);
  write_service(kService6, WEIR_MODE_L7);
  before_ = maps_.stats().value();
}

Diversion::~Diversion() {
  for (base::Fd* listener : {&agent4_, &agent6_, &plain4_, &plain6_}) listener->reset();
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(pending_count(installed().node.bpf_dir(), WEIR_PENDING_SLOT(netns_.cookie())), 0);
  EXPECT_EQ(pending_count(installed().node.bpf_dir()), 0);
  EXPECT_TRUE(maps_.set_config({}).ok());
  EXPECT_TRUE(maps_.remove_pod(netns_.cookie()).ok());
  auto services = maps_.services();
  for (const auto& [vip, row] : services.value()) EXPECT_TRUE(maps_.remove_service(vip).ok());
}

void Diversion::write_service(const base::SocketAddress& at, uint32_t mode, uint32_t flags) {
  ASSERT_TRUE(maps_.set_service(at, {mode, flags, kGeneration}).ok());
}

uint64_t Diversion::counted(weir_stat stat) const { return maps_.stats().value()[stat] - before_[stat]; }

}  // namespace weir::bpf_test
