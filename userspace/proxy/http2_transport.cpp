#include "proxy/http2_transport.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// A closed socket with unread bytes sends RST, which can overtake what was written last (a
// GOAWAY); so the peer gets this long to close first.
constexpr auto kLinger = std::chrono::milliseconds(500);
constexpr size_t kGatherEntries = 64;
// From this size on a gathered send is part of a body that probably goes on.
constexpr size_t kBulk = 16 * 1024;
// So many streams hear at least that the connection is over, even if the pod has no credit.
constexpr uint32_t kToldAtLeast = 16;
}  // namespace

Http2Transport::Http2Transport(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, http2::Role role)
    : Transport(worker, source, role == http2::Role::server ? Opened::by_pod : Opened::by_us),
      socket_(std::move(socket)),
      limit_counters_(role == http2::Role::server ? worker.stats().downstream_limits : worker.stats().upstream_limits),
      connection_(role, worker.options().limits, *this, worker.reactor().now()),
      due_since_(worker.reactor().now()) {
  socket_->set_events(*this);
}

Http2Transport::~Http2Transport() { connection_.closed(); }

void Http2Transport::start(const base::Slice& first) {
  started_ = true;
  socket_->receive();
  needs_flush();  // our preface and SETTINGS
  if (!first.empty()) on_received(first);
}

void Http2Transport::tick(base::Instant now) {
  if (ended_) return;
  connection_.tick(now);
  if (connection_.finished()) needs_flush();
  if (source().may_lend()) connection_.lend();
  if (sparing_ && inbox_.empty() && source().may_start_work()) {
    sparing_ = false;
    socket_->receive();
  }
  if (!started_ || !stalled(now)) return;
  ++(opened_by_pod() ? worker().stats().stalled_downstreams : worker().stats().stalled_upstreams);
  close("the peer does not read what is sent to it", true);
}

// Bytes that wait at some moment must all have left send_timeout later: a trickle does not help, and what waits
// for a window is not meant, since it is not framed.
bool Http2Transport::stalled(base::Instant now) {
  const uint64_t framed = connection_.framed();
  if (framed - connection_.unwritten() < due_) return now - due_since_ >= worker().options().send_timeout;
  due_ = framed;
  due_since_ = now;
  return false;
}

void Http2Transport::drain() {
  if (ended_) return;
  connection_.drain();
  needs_flush();
}

void Http2Transport::abort() {
  const bool shed = worker().shedding();
  close("aborted", shed, shed ? kShed : 0);
}

void Http2Transport::on_connected(int) {}

void Http2Transport::on_received(base::Slice bytes) {
  if (redirected_) redirected_->received(bytes.size());
  if (ended_) return;  // lingering: read and dropped until the peer closes
  if (inbox_.empty() && source().may_start_work()) {
    const uint32_t taken = take(bytes);
    if (ended_) return;
    if (taken == bytes.size()) return receive_more();
    bytes.remove_prefix(taken);
  }
  // What a multishot receive brings has to be copied before other pods get their turn.
  sparing_ = true;
  socket_->pause_receive();
  inbox_.push(source().must_copy() ? base::Slice::copy_of(bytes.bytes()) : std::move(bytes));
  account();
  needs_flush();
}

void Http2Transport::receive_more() {
  if (sparing_) socket_->receive_once();
}

uint32_t Http2Transport::take(const base::Slice& bytes) {
  const uint64_t before = connection_.counters().work();
  const uint32_t taken = connection_.receive(bytes, worker().reactor().now(), static_cast<uint64_t>(source().credit()));
  source().spend(work::kReceive + connection_.counters().work() - before + taken / work::kBytes);
  if (source().may_lend()) connection_.lend();
  if (connection_.finished()) needs_flush();
  return taken;
}

void Http2Transport::take_inbox() {
  while (!inbox_.empty() && source().may_work()) {
    const base::Slice first = inbox_[0];
    const uint32_t taken = take(first);
    if (ended_) return;
    inbox_.drop(taken);
  }
  if (!inbox_.empty()) return needs_flush();
  receive_more();
  if (end_) on_receive_end(*end_);
}

void Http2Transport::on_receive_end(int error) {
  if (error == 0 && !inbox_.empty()) {  // what it said before counts
    end_ = error;
    return;
  }
  close(error == 0 ? "connection closed by peer"
                   : std::strerror(error));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
}

void Http2Transport::on_output() { needs_flush(); }

void Http2Transport::on_limit(http2::Limit limit, http2::LimitAction action) {
  LimitCounter& counter = limit_counters_[http2::index_of(limit)];
  if (action == http2::LimitAction::enforce) return void(++counter.enforced);
  ++counter.drained;
  source().complain("a connection is drained: " + std::string(http2::kLimitNames[http2::index_of(limit)]));
}

void Http2Transport::on_probe_returned() {
  redirected_->probe_returned();
  needs_flush();
}

void Http2Transport::flush() {
  if (ended_ && !told_) return tell_streams();
  if (!inbox_.empty()) take_inbox();
  send_output();
  account();
}

void Http2Transport::account() {
  if (ended_) return;
  const auto now = static_cast<int64_t>(connection_.unwritten() + inbox_.bytes());
  if (now == accounted_) return;
  hold(now - accounted_);
  accounted_ = now;
}

void Http2Transport::send_output() {
  if (!started_ || lingering_ || socket_->closing() || socket_->sending()) return;
  if (redirected_ && !redirected_->may_send()) {
    ++worker().stats().redirect_stalls;
    return;
  }
  iovec out[kGatherEntries];
  const size_t entries = connection_.gather(out);
  if (entries > 0) {
    size_t bytes = 0;
    for (size_t i = 0; i < entries; ++i) bytes += out[i].iov_len;
    source().spend(work::kSend + bytes / work::kBytes);
    socket_->send({out, entries}, entries == kGatherEntries || bytes >= kBulk || connection_.ending());
  } else if (connection_.finished()) {
    begin_lingering_close();
  }
}

void Http2Transport::on_sent(int result) {
  if (result < 0) return close(std::strerror(-result));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
  connection_.written(static_cast<size_t>(result));
  if (redirected_) redirected_->sent(static_cast<size_t>(result));
  account();
  if (!socket_->sending() && (connection_.wants_write() || connection_.finished())) needs_flush();
}

void Http2Transport::on_writable() { needs_flush(); }

void Http2Transport::begin_lingering_close() {
  if (!source().may_linger()) {
    return close(connection_.error()[0] != '\0' ? connection_.error() : "drained");
  }
  lingering_ = true;
  set_lingering();
  inbox_.clear();
  socket_->receive();
  end(connection_.error()[0] != '\0' ? connection_.error() : "drained");
  socket_->shutdown_write();
  worker().reactor().timers().schedule(linger_, worker().reactor().now() + kLinger);
}

void Http2Transport::linger_over(base::Instant) { socket_->close(); }

void Http2Transport::fail(const char* reason) { close(reason); }

void Http2Transport::close(const char* reason, bool abort, uint32_t error_code) {
  end(reason, error_code);
  inbox_.clear();
  hold(-std::exchange(accounted_, 0));
  linger_.cancel();
  socket_->close(abort);
}

void Http2Transport::end(const char* reason, uint32_t error_code) {
  if (std::exchange(ended_, true)) return;
  end_code_ = error_code;
  set_leaving();
  on_ended(reason);
  tell_streams();
}

void Http2Transport::tell_streams() {
  const int64_t affordable = source().credit() / static_cast<int64_t>(work::kStreamEnd);
  const auto most = static_cast<uint32_t>(std::max<int64_t>(affordable, kToldAtLeast));
  const uint32_t before = connection_.open_streams();
  told_ = connection_.closed(end_code_, most);
  source().spend(work::kStreamEnd * (before - connection_.open_streams()));
  if (!told_) return needs_flush();
  if (closed_) removed();
}

void Http2Transport::on_closed() {
  closed_ = true;
  if (told_) removed();
}

}  // namespace weir::proxy
