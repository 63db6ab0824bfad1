#include "proxy/worker.h"

#include <pthread.h>

#include <cerrno>
#include <random>

#include "proxy/inbound.h"

namespace weir::proxy {
namespace {
constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kHeartbeat = std::chrono::milliseconds(250);  // a quarter of what BPF takes for hung
}  // namespace

Transport::Transport(Worker& worker, Source& source) : worker_(worker), source_(source) { ++source.transports_; }

Transport::~Transport() { --source_.transports_; }

void Transport::needs_flush() {
  if (dirty_) return;
  dirty_ = true;
  worker_.dirty_.push_back(this);
}

void Transport::removed() { worker_.remove(*this); }

Worker::Worker(WorkerOptions options, telemetry::Recorder& recorder, std::shared_ptr<const config::Snapshot> snapshot)
    : options_(std::move(options)), recorder_(recorder) {
  snapshots_.emplace_back(std::move(snapshot));
  std::random_device device;
  seed_ = (uint64_t{device()} << 32) | device();
}

base::Result<std::unique_ptr<Worker>> Worker::start(WorkerOptions options, telemetry::Recorder& recorder,
                                                    std::shared_ptr<const config::Snapshot> snapshot) {
  std::unique_ptr<Worker> worker(new Worker(std::move(options), recorder, std::move(snapshot)));
  // The ring belongs to the thread that makes it, so the thread makes it and reports back.
  std::promise<base::Result<void>> made;
  auto result = made.get_future();
  worker->thread_ = std::thread([&made, raw = worker.get()] {
    pthread_setname_np(pthread_self(), ("worker-" + std::to_string(raw->options_.index)).c_str());
    auto reactor = io::Reactor::create(raw->options_.reactor);
    if (!reactor) {
      made.set_value(reactor.error());
      return;
    }
    raw->reactor_ = std::move(*reactor);
    if (auto listening = raw->listeners_.start(); !listening) {
      made.set_value(listening.error());
      return;
    }
    made.set_value({});
    raw->run();
  });
  if (auto started = result.get(); !started) {
    worker->thread_.join();
    return started.error();
  }
  return worker;
}

Worker::~Worker() {
  if (!thread_.joinable()) return;
  reactor_->post([this] { stopping_ = true; });
  thread_.join();
}

void Worker::run() {
  beat(reactor_->now());
  base::Instant next_tick = reactor_->now() + kTick;
  while (!stopping_) {
    reactor_->turn(next_tick - reactor_->now());
    if (reactor_->now() >= next_tick) {
      tick(reactor_->now());
      next_tick = reactor_->now() + kTick;
    }
    flush();
    if (draining_ && stats_.transports.value() == stats_.upstream_connections.value())
      drained_.store(true, std::memory_order_release);
    ++stats_.turns;
  }
  // The end: nobody is told anything any more, but all memory and sockets go back.
  for (auto& [uid, source] : sources_) {
    end_source(*source);
    removed_sources_.push_back(std::move(source));
  }
  sources_.clear();
  const base::Instant give_up = reactor_->now() + std::chrono::seconds(2);
  while ((!transports_.empty() || !removed_sources_.empty()) && reactor_->now() < give_up) {
    reactor_->turn(std::chrono::milliseconds(10));
    tick(reactor_->now());
    flush();
  }
  transports_.clear();
  removed_sources_.clear();
  reactor_.reset();
}

void Worker::tick(base::Instant now) {
  for (size_t i = 0; i < transports_.size(); ++i) transports_[i]->tick(now);
  for (auto& [uid, source] : sources_) source->sweep();
  std::erase_if(removed_sources_, [](const auto& source) { return source->transports_ == 0; });
  std::erase_if(snapshots_, [this](const SnapshotUse& use) { return use.users_ == 0 && &use != &snapshots_.back(); });
}

void Worker::beat(base::Instant now) {
  if (options_.heartbeat) options_.heartbeat(now);
  reactor_->timers().schedule(heartbeat_, now + kHeartbeat);
}

void Worker::flush() {
  // Flushing may make others dirty (a stream reset by a failed send): until none is left.
  while (!dirty_.empty()) {
    flushing_.swap(dirty_);
    for (Transport* transport : flushing_) {
      if (!transport) continue;
      transport->dirty_ = false;
      transport->flush();
    }
    flushing_.clear();
  }
}

void Worker::adopt(std::unique_ptr<Transport> transport) {
  transport->index_ = transports_.size();
  transports_.push_back(std::move(transport));
  ++stats_.transports;
}

void Worker::remove(Transport& transport) {
  if (transport.dirty_) {
    for (auto* list : {&dirty_, &flushing_})
      for (Transport*& entry : *list)
        if (entry == &transport) entry = nullptr;
    std::erase(dirty_, nullptr);
  }
  const size_t index = transport.index_;
  if (index + 1 != transports_.size()) {
    std::swap(transports_[index], transports_.back());
    transports_[index]->index_ = index;
  }
  const std::unique_ptr<Transport> last = std::move(transports_.back());
  transports_.pop_back();
  --stats_.transports;
}

SnapshotUse& Worker::use_snapshot() {
  SnapshotUse& current = snapshots_.back();
  ++current.users_;
  return current;
}

uint64_t Worker::random_seed() { return seed_ += 0x9E3779B97F4A7C15ull; }

void Worker::accepted(Source& source, base::Fd socket) {
  const auto destination = options_.original_destination(socket.get());
  if (!destination) {
    ++stats_.undiverted_accepts;
    return;
  }
  auto connection = std::make_unique<io::Socket>(*reactor_, std::move(socket));
  // The listener is on loopback, so the peer is too, unless the application had bound itself to its pod IP; it
  // believes to come from that one either way.
  base::SocketAddress client = connection->remote();
  if (client.ip.is_loopback()) {
    for (const base::IpAddress& ip : source.pod().ips) {
      if (ip.is_v4() != destination->ip.is_v4()) continue;
      client.ip = ip;
      break;
    }
  }
  adopt(std::make_unique<Inbound>(*this, source, std::move(connection), Dialled{*destination, client}));
}

std::future<void> Worker::set_snapshot(std::shared_ptr<const config::Snapshot> snapshot) {
  auto applied = std::make_shared<std::promise<void>>();
  std::future<void> future = applied->get_future();
  reactor_->post([this, applied, snapshot = std::move(snapshot)]() mutable {
    snapshots_.emplace_back(std::move(snapshot));
    recorder_.snapshot_changed();
    for (auto& [uid, source] : sources_) source->snapshot_changed(this->snapshot());
    applied->set_value();
  });
  return future;
}

void Worker::add_source(interception::EnrolledPod pod) {
  auto shared = std::make_shared<interception::EnrolledPod>(std::move(pod));  // std::function must be copyable
  reactor_->post([this, shared] {
    std::string uid = shared->pod->uid;
    auto& source = sources_[uid];
    if (source) {
      end_source(*source);
      removed_sources_.push_back(std::move(source));
      --stats_.sources;
    }
    source = std::make_unique<Source>(*this, std::move(*shared));
    recorder_.snapshot_changed();
    ++stats_.sources;
  });
}

void Worker::update_source(std::shared_ptr<const config::Pod> pod) {
  reactor_->post([this, pod = std::move(pod)] {
    if (const auto found = sources_.find(pod->uid); found != sources_.end()) found->second->update(pod);
    recorder_.snapshot_changed();
  });
}

void Worker::remove_source(std::string uid) {
  reactor_->post([this, uid = std::move(uid)] {
    const auto found = sources_.find(uid);
    if (found == sources_.end()) return;
    end_source(*found->second);
    removed_sources_.push_back(std::move(found->second));
    sources_.erase(found);
    --stats_.sources;
  });
}

void Worker::end_source(Source& source) {
  source.stop_listening();
  for (size_t i = 0; i < transports_.size(); ++i)
    if (&transports_[i]->source() == &source) transports_[i]->abort();
}

void Worker::drain() {
  reactor_->post([this] {
    draining_ = true;
    for (auto& [uid, source] : sources_) source->stop_listening();
    for (size_t i = 0; i < transports_.size(); ++i) transports_[i]->drain();
  });
}

void Worker::abort_all() {
  reactor_->post([this] {
    // RPCs are answered first; their connections then end by the GOAWAY of drain().
    exchanges_.for_each([](Exchange& exchange) { exchange.abandon(); });
    for (size_t i = 0; i < transports_.size(); ++i) transports_[i]->end_relay();
  });
}

}  // namespace weir::proxy
