#include "proxy/worker.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <random>

#include "http2/pool.h"
#include "proxy/heap.h"
#include "proxy/inbound.h"
#include "proxy/tcp_relay.h"

namespace weir::proxy {
namespace {
constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kHeartbeat = std::chrono::milliseconds(250);  // a quarter of what BPF takes for hung
// Shares of a turn, in units of Source::spend. Alone on its worker a pod is hardly ever cut
// short; beside others it delays them by the smaller one.
constexpr int64_t kLoneQuantum = 4096;
constexpr int64_t kSharedQuantum = 24;
constexpr size_t kBurst = 256;          // connections and RPCs: fewer leave nothing worth asking the allocator
constexpr size_t kSettled = 64 * 1024;  // bytes freed in a tick
constexpr int kQuietLooks = 4;          // ticks
constexpr auto kSharedFor = std::chrono::milliseconds(100);

// splice() to a connection that is broken raises it, and knows no MSG_NOSIGNAL.
void block_sigpipe() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}
}  // namespace

Transport::Transport(Worker& worker, Source& source, Opened opened)
    : worker_(worker), source_(source), opened_(opened) {
  ++source.transports_;
  if (opened == Opened::by_pod) ++source.connections_;
}

Transport::~Transport() {
  hold(-held_);
  --source_.transports_;
  if (opened_ == Opened::by_pod) --source_.connections_;
  if (lingering_) --source_.lingering_;
}

void Transport::hold(int64_t bytes) {
  held_ += bytes;
  source_.memory_ += bytes;
  worker_.hold(source_, bytes);
}

void Transport::needs_flush() { source_.wait_for_turn(*this); }

void Transport::set_lingering() {
  lingering_ = true;
  ++source_.lingering_;
}

void Transport::removed() { worker_.remove(*this); }

Worker::Worker(WorkerOptions options, telemetry::Recorder& recorder, std::shared_ptr<const config::Snapshot> snapshot)
    : options_(std::move(options)), recorder_(recorder), pipes_(options_.max_pipes) {
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
    block_sigpipe();
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
    reactor_->turn(busy_.empty() ? next_tick - reactor_->now() : base::Duration(0));
    if (!over_memory_.empty() || over_budget(memory_)) shed();
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
  give_memory_back();
  pipes_.trim();
  std::erase_if(snapshots_, [this](const SnapshotUse& use) { return use.users_ == 0 && &use != &snapshots_.back(); });
}

void Worker::beat(base::Instant now) {
  if (options_.heartbeat) options_.heartbeat(now);
  reactor_->timers().schedule(heartbeat_, now + kHeartbeat);
}

void Worker::give_memory_back() {
  const size_t load = transports_.size() + exchanges_.in_use();
  const size_t busiest = std::max(load, std::exchange(busiest_, load));
  peak_load_ = std::max(peak_load_, busiest + exchanges_.kept());
  const size_t freed = exchanges_.trim() * sizeof(Exchange) + http2::pool::trim();
  reactor_->buffers().trim();
  // The allocator keeps what is free below something that is not, unless it is asked. That takes some milliseconds, so
  // it is asked once after a burst, when the lists above have become short, and once more when they give nothing more.
  // They, and the access log, give back only what was idle since they were looked at last, so the first looks after a
  // burst bring nothing.
  quiet_looks_ = peak_load_ > kBurst + 2 * busiest ? quiet_looks_ + 1 : 0;
  if (quiet_looks_ >= kQuietLooks && exchanges_.kept() <= kBurst && freed <= kSettled) {
    give_heap_back();
    peak_load_ = busiest;
    rest_follows_ = freed > 0;
  } else if (rest_follows_ && freed == 0) {
    give_heap_back();
    rest_follows_ = false;
  }
}

void Worker::flush() {
  // Flushing may make others dirty (a stream reset by a failed send): until none is left that may work.
  http2::List<Source, InTurn> next_turn;
  while (!busy_.empty()) {
    Source& source = busy_.pop_front();
    while (!source.work_.empty() && source.may_work()) source.work_.pop_front().flush();
    source.behind_ = !source.work_.empty();
    if (!source.behind_) continue;
    source.unlink();
    next_turn.push_back(source);
  }
  busy_.splice_back(next_turn);
}

void Worker::has_work(Source& source) {
  if (!source.linked()) busy_.push_back(source);
}

int64_t Worker::quantum(const Source& source) {
  if (last_active_ != &source) {
    if (last_active_) shared_until_ = reactor_->now() + kSharedFor;
    last_active_ = &source;
  }
  return reactor_->now() < shared_until_ ? kSharedQuantum : kLoneQuantum;
}

void Worker::hold(Source& source, int64_t bytes) {
  memory_ += bytes;
  if (bytes <= 0 || source.memory() <= static_cast<int64_t>(options_.pod_limits.max_memory)) return;
  if (std::find(over_memory_.begin(), over_memory_.end(), &source) == over_memory_.end())
    over_memory_.push_back(&source);
}

// Accepting ends at two thirds of what there is and dialling at five sixths, so that what was accepted can be served.
// An eighth is divided between the pods: each may have its share whatever the others have.
bool Worker::may_open(const Source& source, Transport::Opened by) {
  const uint64_t most = options_.max_sockets;
  const uint64_t open = stats_.transports.value() + stats_.tcp_relays.value() + stats_.dials.value() +
                        2 * (pipes_.in_use() + pipes_.idle());
  if (most == 0 || open < (by == Transport::Opened::by_pod ? most / 3 * 2 : most / 6 * 5)) return true;
  if (source.transports_ < most / 8 / std::max<size_t>(sources_.size(), 1)) return true;
  ++stats_.refused_sockets;
  return false;
}

bool Worker::over_budget(int64_t bytes) const {
  return options_.max_memory > 0 && bytes > static_cast<int64_t>(options_.max_memory);
}

// Largest first, until what will stay of held() is within the limit. `of`: which transports are meant.
template <class Held, class Of>
void Worker::shed_largest(const Held& held, int64_t limit, const Of& of, Counter& counter) {
  while (true) {
    int64_t staying = held();
    Transport* largest = nullptr;
    for (const auto& transport : transports_) {
      if (!of(*transport)) continue;
      if (transport->leaving_)
        staying -= transport->held();
      else if (!largest || transport->held() > largest->held())
        largest = transport.get();
    }
    if (!largest || staying <= limit) return;
    ++counter;
    largest->leaving_ = true;  // whatever it does: nobody is asked twice
    largest->abort();
  }
}

void Worker::shed() {
  shedding_ = true;
  while (!over_memory_.empty()) {
    const Source& source = *over_memory_.back();
    over_memory_.pop_back();
    shed_largest([&] { return source.memory(); }, static_cast<int64_t>(options_.pod_limits.max_memory),
                 [&](Transport& transport) { return &transport.source() == &source; }, stats_.shed_connections);
  }
  if (over_budget(memory_))
    shed_largest([&] { return memory_; }, static_cast<int64_t>(options_.max_memory),
                 [](const Transport&) { return true; }, stats_.shed_for_agent);
  shedding_ = false;
}

void Worker::adopt(std::unique_ptr<Transport> transport) {
  transport->index_ = transports_.size();
  transports_.push_back(std::move(transport));
  busiest_ = std::max(busiest_, transports_.size());
  ++stats_.transports;
}

template <class T>
void Worker::start(std::unique_ptr<T> transport) {
  T& started = *transport;
  adopt(std::move(transport));
  started.start();
}

void Worker::remove(Transport& transport) {
  const size_t index = transport.index_;
  if (index + 1 != transports_.size()) {
    std::swap(transports_[index], transports_.back());
    transports_[index]->index_ = index;
  }
  const std::unique_ptr<Transport> last = std::move(transports_.back());
  transports_.pop_back();
  --stats_.transports;
}

Source* Worker::source(const std::string& uid) {
  const auto found = sources_.find(uid);
  return found == sources_.end() ? nullptr : found->second.get();
}

SnapshotUse& Worker::use_snapshot() {
  SnapshotUse& current = snapshots_.back();
  ++current.users_;
  return current;
}

uint64_t Worker::random_seed() { return seed_ += 0x9E3779B97F4A7C15ull; }

uint64_t Worker::random() {  // splitmix64
  uint64_t bits = random_seed();
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
  return bits ^ (bits >> 31);
}

void Worker::accepted(Source& source, base::Fd socket, const base::SocketAddress& peer) {
  if (!source.may_connect() || !may_open(source, Transport::Opened::by_pod)) return refuse(socket);
  const auto diverted = options_.original_destination(socket.get());
  if (!diverted) {
    ++stats_.undiverted_accepts;
    return refuse(socket);  // a FIN would look like the server's
  }
  auto connection = std::make_unique<io::Socket>(*reactor_, std::move(socket), true);
  // The listener is on loopback, so the peer is too, unless the application had bound itself to its pod IP; it
  // believes to come from that one either way.
  base::SocketAddress client = peer;
  if (client.ip.is_loopback()) {
    for (const base::IpAddress& ip : source.pod().ips) {
      if (ip.is_v4() != diverted->destination.ip.is_v4()) continue;
      client.ip = ip;
      break;
    }
  }
  const Dialled dialled{diverted->destination, client, diverted->mode, reactor().now()};
  if (dialled.mode == config::Mode::tcp) {
    auto dial = std::make_unique<Dial>(*this, source, dialled);
    start(std::make_unique<TcpRelay>(*this, source, std::move(connection), dialled, Said{}, std::move(dial)));
  } else {
    start(std::make_unique<Inbound>(*this, source, std::move(connection), dialled));
  }
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
