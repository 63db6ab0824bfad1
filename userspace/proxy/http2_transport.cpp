#include "proxy/http2_transport.h"

#include <cerrno>
#include <cstring>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// A closed socket with unread bytes sends RST, which can overtake what was written last (a
// GOAWAY); so the peer gets this long to close first.
constexpr auto kLinger = std::chrono::milliseconds(500);
constexpr size_t kGatherEntries = 64;
// From this size on a gathered send is part of a body that probably goes on.
constexpr size_t kBulk = 16 * 1024;
}  // namespace

Http2Transport::Http2Transport(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, http2::Role role)
    : Transport(worker, source),
      socket_(std::move(socket)),
      limit_counters_(role == http2::Role::server ? worker.stats().downstream_limits : worker.stats().upstream_limits),
      connection_(role, worker.options().limits, *this, worker.reactor().now()) {
  socket_->set_events(*this);
}

Http2Transport::~Http2Transport() = default;

void Http2Transport::start(const base::Slice& first) {
  started_ = true;
  socket_->receive();
  needs_flush();  // our preface and SETTINGS
  if (first.empty()) return;
  if (redirected_) redirected_->received(first.size());
  connection_.receive(first, worker().reactor().now());
}

void Http2Transport::tick(base::Instant now) {
  if (ended_) return;
  connection_.tick(now);
  if (connection_.finished()) needs_flush();
}

void Http2Transport::drain() {
  if (ended_) return;
  connection_.drain();
  needs_flush();
}

void Http2Transport::abort() { fail("aborted"); }

void Http2Transport::on_connected(int) {}

void Http2Transport::on_received(base::Slice bytes) {
  if (redirected_) redirected_->received(bytes.size());
  if (ended_) return;  // lingering: read and dropped until the peer closes
  connection_.receive(bytes, worker().reactor().now());
  if (connection_.finished()) needs_flush();
}

void Http2Transport::on_receive_end(int error) {
  close(error == 0 ? "connection closed by peer" : std::strerror(error), false);
}

void Http2Transport::on_output() { needs_flush(); }

void Http2Transport::on_limit(http2::Limit limit, http2::LimitAction action) {
  LimitCounter& counter = limit_counters_[http2::index_of(limit)];
  if (action == http2::LimitAction::enforce) return void(++counter.enforced);
  ++counter.drained;
  base::log::info("a connection of {} is drained: {}", source().pod().qualified_name(),
                  http2::kLimitNames[http2::index_of(limit)]);
}

void Http2Transport::on_probe_returned() {
  redirected_->probe_returned();
  needs_flush();
}

void Http2Transport::flush() {
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
    socket_->send({out, entries}, entries == kGatherEntries || bytes >= kBulk);
  } else if (connection_.finished()) {
    begin_lingering_close();
  }
}

void Http2Transport::on_sent(int result) {
  if (result < 0) return close(std::strerror(-result), false);
  connection_.written(static_cast<size_t>(result));
  if (redirected_) redirected_->sent(static_cast<size_t>(result));
  if (!socket_->sending()) needs_flush();
}

void Http2Transport::on_writable() { needs_flush(); }

void Http2Transport::begin_lingering_close() {
  lingering_ = true;
  if (!ended_) {
    ended_ = true;
    connection_.closed();
    on_ended(connection_.error()[0] != '\0' ? connection_.error() : "drained");
  }
  socket_->shutdown_write();
  worker().reactor().timers().schedule(linger_, worker().reactor().now() + kLinger);
}

void Http2Transport::linger_over(base::Instant) { socket_->close(); }

void Http2Transport::fail(const char* reason) { close(reason, false); }

void Http2Transport::close(const char* reason, bool abort) {
  if (!ended_) {
    ended_ = true;
    connection_.closed();
    on_ended(reason);
  }
  linger_.cancel();
  socket_->close(abort);
}

void Http2Transport::on_closed() { removed(); }

}  // namespace weir::proxy
