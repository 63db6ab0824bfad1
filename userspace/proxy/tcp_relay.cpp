#include "proxy/tcp_relay.h"

#include <utility>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
constexpr uint32_t kCopied = 4096;    // below, what waits is copied
constexpr int kWorthSplicing = 8192;  // bytes at once; fewer are cheaper copied
// How long the other side may take for what one said before its connection broke.
constexpr auto kLastWords = std::chrono::seconds(2);
constexpr auto kFirstLook = std::chrono::milliseconds(20);  // each after it is twice as far
// So quiet a relay has time to ask whether its connections still are.
constexpr auto kQuiet = std::chrono::seconds(1);
// Most relays are over before this: they need no keepalive, and pay nothing for it.
constexpr auto kKeptAliveAfter = std::chrono::seconds(5);
constexpr int kProbes = 4, kProbeAfterSeconds = 300, kProbeEverySeconds = 30;

// As long as nobody is there who could take it: a connect to nowhere takes long, and a pod may have thousands of them.
void own(base::Slice& bytes) {
  if (!bytes.empty()) bytes = base::Slice::copy_of(bytes.bytes());
}
}  // namespace

TcpRelay::TcpRelay(Worker& worker, Source& source, std::unique_ptr<io::Socket> client, const Dialled& dialled,
                   const Said& said, std::unique_ptr<Dial> dial)
    : Transport(worker, source, Opened::by_pod),
      dialled_(dialled),
      client_error_(said.error),
      dial_(std::move(dial)),
      started_(dialled.accepted),
      last_activity_(worker.reactor().now()) {
  ++worker.stats().tcp_relays;
  ++worker.stats().tcp_relays_total;
  client_.socket = std::move(client);
  client_.socket->set_events(client_);
  client_.receiving = client_.socket->receiving();
  client_.ended = said.ended;
  client_.bytes_in = said.bytes.size();
  server_.to_send = said.bytes;
  // A socket in a sockmap can't be spliced from.
  const auto& keep_on_tcp = worker.options().keep_on_tcp;
  if (dialled.mode == config::Mode::l7 && keep_on_tcp && keep_on_tcp(client_.socket->fd()))
    client_.copied = server_.copied = true;
  dial_->set_events(*this);
}

TcpRelay::~TcpRelay() { --worker().stats().tcp_relays; }

void TcpRelay::start(telemetry::Flags failure) {
  if (!failure.empty()) return finish(failure, true);
  if (client_error_ != 0) return fail(client_);
  if (dial_->connected()) return on_dialled();
  own(server_.to_send);
  account();
  if (!dial_->started()) dial_->start();
}

void TcpRelay::on_dialled() {
  server_.socket = dial_->take_socket();
  server_.socket->set_events(server_);
  count_opened();
  server_.receiving = server_.socket->receiving();
  if (!server_.to_send.empty())
    pass_on(server_);
  else if (client_.ended)
    server_.socket->shutdown_write();
  receive_from(client_);
  const Said& said = dial_->said();
  if (!said.bytes.empty()) received(server_, said.bytes);
  if (finished_) return;
  if (said.ended)
    receive_ended(server_, said.error);
  else
    receive_from(server_);
}

// While what came last is being sent: so a chunk costs one io_uring_enter(), not two.
void TcpRelay::receive_from(Side& from) {
  const Side& to = other(from);
  if (from.ended || from.receiving || from.readable || to.pipe || !to.next.empty() || to.failed) return;
  if (from.bulk() && !to.to_send.empty()) return;  // first what was copied; then sent() comes here
  from.receiving = true;
  from.bulk() ? from.socket->await_readable() : from.socket->receive_once();
}

void TcpRelay::received(Side& from, base::Slice bytes) {
  from.receiving = false;
  if (finished_ || other(from).failed) return;
  last_activity_ = worker().reactor().now();
  from.bytes_in += bytes.size();
  const bool full = bytes.size() == io::ReceiveBuffers::kBufferSize && from.socket->more_to_receive();
  from.full = full ? from.full + 1 : 0;
  Side& to = other(from);
  const bool behind = !to.to_send.empty();
  base::Slice& place = behind ? to.next : to.to_send;
  place = std::move(bytes);
  if (!to.socket)
    own(place);
  else if (behind)
    unpin(place);
  account();
  if (!to.socket || behind) return;  // on_dialled() or sent() passes it on
  pass_on(to);
  receive_from(from);
}

// What waits for a slow reader must not take the receive buffers from others.
void TcpRelay::unpin(base::Slice& bytes) {
  if (bytes.size() < kCopied || source().must_copy()) own(bytes);
}

void TcpRelay::readable(Side& from) {
  from.receiving = false;
  if (finished_ || other(from).failed) return;
  if (source().may_start_work()) return splice_from(from);
  from.readable = true;
  needs_flush();
}

void TcpRelay::splice_from(Side& from) {
  from.readable = false;
  Side& to = other(from);
  if (finished_ || to.failed) return;
  to.pipe = source().take_pipe();
  const int moved = to.pipe ? from.socket->receive_into(*to.pipe) : 0;
  if (moved <= 0) {
    from.full = 0;
    from.copied = to.pipe != nullptr;
    give_back(to);
    return moved == 0 ? receive_from(from) : receive_ended(from, -moved);
  }
  last_activity_ = worker().reactor().now();
  from.bytes_in += static_cast<uint64_t>(moved);
  worker().stats().tcp_spliced_bytes += static_cast<uint64_t>(moved);
  if (moved < kWorthSplicing) from.full = 0;
  splice_rest(to);
}

void TcpRelay::splice_rest(Side& to) {
  const int sent = to.socket->send_from(*to.pipe);
  if (sent < 0) return fail(to);
  if (sent > 0) last_activity_ = worker().reactor().now();
  source().spend(work::kRelayedChunk + static_cast<uint64_t>(sent) / work::kSplicedBytes);
  if (to.pipe->held() > 0) return account();  // on_writable() goes on
  give_back(to);
  account();
  all_sent(to);
}

void TcpRelay::give_back(Side& to) {
  if (to.pipe) source().give_back(std::move(to.pipe));
}

void TcpRelay::pass_on(Side& to) {
  if (finished_ || to.failed || !to.owed()) return;
  if (source().may_start_work()) return to.pipe ? splice_rest(to) : send_rest(to);
  unpin(to.to_send);
  needs_flush();
}

void TcpRelay::flush() {
  for (Side* side : {&client_, &server_}) {
    if (side->readable) splice_from(*side);
    if (finished_ || side->failed || !side->socket || side->socket->sending()) continue;
    side->pipe ? splice_rest(*side) : send_rest(*side);
  }
}

void TcpRelay::account() { hold(static_cast<int64_t>(client_.waiting() + server_.waiting()) - held()); }

void TcpRelay::send_rest(Side& to) {
  if (finished_ || to.failed || to.to_send.empty()) return;
  source().spend(work::kRelayedChunk + to.to_send.size() / work::kRelayedBytes);
  const iovec bytes{const_cast<uint8_t*>(to.to_send.data()), to.to_send.size()};
  const Side& from = other(to);
  // The next receive tells of a small send as well, if there is one (before the first splice there is none); of a large
  // one the socket perhaps takes only a part.
  const bool small = to.to_send.size() < kCopied && !from.bulk();
  const bool more = from.ended || !to.next.empty() || !small;
  // A last word and the FIN are one segment, for which its reader is woken once. What there is to receive comes, and is
  // sent, within a turn.
  const bool ends = from.ended ? to.next.empty() && !from.failed : from.socket && from.socket->more_to_receive();
  to.socket->send({&bytes, 1}, more, small && ends);
}

void TcpRelay::sent(Side& to, int result) {
  if (finished_ || to.failed) return;
  if (result < 0) return fail(to);
  if (result > 0) last_activity_ = worker().reactor().now();
  to.to_send.remove_prefix(static_cast<uint32_t>(result));
  account();
  if (!to.to_send.empty()) return unpin(to.to_send);  // on_writable() goes on
  to.to_send = std::exchange(to.next, {});
  pass_on(to);
  all_sent(to);
}

// All but `to_send`, which is under way.
void TcpRelay::all_sent(Side& to) {
  Side& from = other(to);
  if (to.owed() || !from.ended) return receive_from(from);
  end_for(to);
}

// All that was said to it has been sent.
void TcpRelay::end_for(Side& to) {
  if (other(to).failed) return last_words(worker().reactor().now());
  if (complete()) return finish({}, false);  // which sends the FIN
  to.socket->shutdown_write();
}

void TcpRelay::receive_ended(Side& from, int error) {
  from.receiving = false;
  if (finished_) return;
  from.ended = true;
  if (error != 0 && !from.failed) return fail(from);
  Side& to = other(from);
  if (!to.socket || to.failed || to.owed()) return;  // on_dialled() or sent() passes it on
  end_for(to);
}

bool TcpRelay::complete() const { return client_.ended && server_.ended && !client_.owed() && !server_.owed(); }

// With plain TCP the other side could still read what came before the reset.
void TcpRelay::fail(Side& side) {
  Side& to = other(side);
  if (failure_.empty()) failure_.set(&side == &client_ ? telemetry::Flag::DC : telemetry::Flag::UC);
  side.failed = true;
  give_back(side);
  account();
  if (!to.socket || to.failed) return finish(failure_, true);  // nobody is left to be told
  receive_from(side);                                          // a failed send says nothing of what came
  give_up_ = worker().reactor().now() + kLastWords;
  look_ = kFirstLook;
  last_words(worker().reactor().now());
}

void TcpRelay::last_words(base::Instant now) {
  const Side& from = client_.failed ? client_ : server_;
  const Side& to = client_.failed ? server_ : client_;
  const bool told = from.ended && !to.owed() && to.socket->unsent() == 0;  // which a reset would drop
  if (told || now >= give_up_) return finish(failure_, true);
  source().spend(1);
  worker().reactor().timers().schedule(last_words_, now + look_);
  look_ *= 2;
}

void TcpRelay::broken(Side& side) {
  // A receive that is pending tells by itself.
  if (!finished_ && !side.failed && !side.receiving && side.socket->error() != 0) fail(side);
}

telemetry::TcpConnection TcpRelay::record() {
  telemetry::TcpConnection record;
  record.started = started_;
  record.ended = worker().reactor().now();
  record.bytes_received = client_.bytes_in;
  record.bytes_sent = server_.bytes_in;
  record.counted_received = client_.counted;
  record.counted_sent = server_.counted;
  record.source = &source().pod();
  record.service = dial_->service().get();
  record.cluster = dial_->cluster();
  record.endpoint = dial_->last_endpoint();
  record.failure = dial_->failure();
  record.downstream_local = dialled_.address;
  record.downstream_remote = dialled_.client;
  return record;
}

void TcpRelay::finish(telemetry::Flags flags, bool reset) {
  if (finished_) return;
  finished_ = true;
  if (dial_->service()) {
    if (!server_.socket) count_opened();  // it had none
    telemetry::TcpConnection ended = record();
    ended.flags = flags;
    if (server_.socket && worker().recorder().logs(source().pod(), !flags.empty()))
      ended.upstream_local = server_.socket->local();
    worker().recorder().record(ended);
  }
  last_words_.cancel();
  set_leaving();
  give_back(client_);
  give_back(server_);
  hold(-held());
  for (const Side* side : {&client_, &server_})
    if (side->watched) worker().error_watch().remove(side->socket->fd());
  dial_closing_ = dial_->close(reset);
  client_.socket->close(reset);
  if (server_.socket) server_.socket->close(reset);
}

void TcpRelay::closed(Side& side) {
  side.socket.reset();
  remove_if_closed();
}

void TcpRelay::on_dial_closed() {
  dial_closing_ = false;
  remove_if_closed();
}

void TcpRelay::remove_if_closed() {
  if (!client_.socket && !server_.socket && !dial_closing_) removed();
}

void TcpRelay::tick(base::Instant now) {
  if (finished_) return;
  count_bytes();
  if (now - last_activity_ >= kQuiet) {
    watch(client_);
    watch(server_);
  }
  if (now - started_ >= kKeptAliveAfter) keep_alive();
  const base::Duration idle = dial_->settings().tcp_idle_timeout;
  const auto& longest = dial_->settings().max_connection_duration;
  telemetry::Flags flags;
  if (idle > base::Duration::zero() && now - last_activity_ > idle) flags.set(telemetry::Flag::SI);
  if (longest && now - started_ > *longest) flags.set(telemetry::Flag::DT);
  if (!flags.empty()) finish(flags, false);
}

// Once for each: when it is known where it goes, so that what opens and what closes have the same labels.
void TcpRelay::count_opened() {
  if (dial_->service()) worker().recorder().opened(record());
}

// What a connection that lasts has carried is counted while it does.
void TcpRelay::count_bytes() {
  if (!dial_->service() || !server_.socket ||
      (client_.bytes_in == client_.counted && server_.bytes_in == server_.counted))
    return;
  worker().recorder().progress(record());
  client_.counted = client_.bytes_in;
  server_.counted = server_.bytes_in;
}

void TcpRelay::watch(Side& side) {
  if (!side.socket || side.receiving || side.failed || side.watched) return;
  side.watched = worker().error_watch().add(worker().reactor(), side.socket->fd(), side);
}

// An application's own keepalive ends here. A node that loses power says nothing, and a client that only listens would
// wait for the idle timeout. (The other socket's ends are both on this node.)
void TcpRelay::keep_alive() {
  if (!server_.socket || dial_->settings().tcp_keepalive || std::exchange(kept_alive_, true)) return;
  server_.socket->keep_alive(kProbes, kProbeAfterSeconds, kProbeEverySeconds);
}

void TcpRelay::abort() {
  telemetry::Flags flags;
  flags.set(worker().shedding() ? telemetry::Flag::OM : telemetry::Flag::LR);
  finish(flags, true);
}

}  // namespace weir::proxy
