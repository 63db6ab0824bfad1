// TcpRelay: a connection that is not HTTP/2, carried to one endpoint byte for byte.
// Each direction holds at most two received chunks, the one that is being sent and the next, or what one pipe holds: a
// slow reader stops the other side's sender through TCP itself. Bulk goes through a pipe, which spares copying it; what
// doesn't pays for the additional system calls. Half-closes and resets are carried over; what one side said before its
// reset is passed on first, as far as the other takes it soon.
#pragma once

#include <memory>

#include "io/error_watch.h"
#include "proxy/dial.h"
#include "proxy/transport.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

class TcpRelay final : public Transport, private DialEvents {
 public:
  // `said`: by the client, up to now. `dial`: to the server, begun or not.
  TcpRelay(Worker& worker, Source& source, std::unique_ptr<io::Socket> client, const Dialled& dialled, const Said& said,
           std::unique_ptr<Dial> dial);
  ~TcpRelay() override;

  // `failure`: why the dial has failed already; empty if it has not.
  void start(telemetry::Flags failure = {});
  void tick(base::Instant now) override;
  void drain() override {}  // ends when its two sides do, or by end_relay()
  void end_relay() override { abort(); }
  void abort() override;
  void flush() override;

 private:
  static constexpr uint32_t kBulk = 4;  // so many full buffers in a row, and what follows is spliced
  struct Side final : io::SocketEvents, io::ErrorWatch::Watcher {
    explicit Side(TcpRelay& owner) : relay(owner) {}
    void on_connected(int) override {}
    void on_received(base::Slice bytes) override { relay.received(*this, std::move(bytes)); }
    void on_receive_end(int error) override { relay.receive_ended(*this, error); }
    void on_readable() override { relay.readable(*this); }
    void on_sent(int result) override { relay.sent(*this, result); }
    void on_writable() override { relay.pass_on(*this); }
    void on_closed() override { relay.closed(*this); }
    void on_broken() override { relay.broken(*this); }

    // Something that the other side said is still to be sent to this one.
    bool owed() const { return pipe || !to_send.empty(); }
    bool bulk() const { return full >= kBulk && !copied; }
    uint64_t waiting() const { return to_send.size() + next.size() + (pipe ? pipe->held() : 0); }

    TcpRelay& relay;
    std::unique_ptr<io::Socket> socket;
    base::Slice to_send;
    base::Slice next;                // came while `to_send` was on its way
    uint64_t bytes_in = 0;           // received from this side
    uint64_t counted = 0;            // of these, what the metrics have
    std::unique_ptr<io::Pipe> pipe;  // instead of these two: bytes that are not copied
    uint32_t full = 0;               // received from this side in a row: buffers that were filled, with more to come
    bool copied = false;             // what it says can't be spliced
    bool readable = false;           // there are bytes for a pipe, which wait for a turn
    bool ended = false;              // nothing more comes: it sent FIN, or its connection broke
    bool failed = false;             // its connection broke: nothing more goes there
    bool receiving = false;
    bool watched = false;  // by the worker's ErrorWatch
  };

  Side& other(Side& side) { return &side == &client_ ? server_ : client_; }
  // All that the two sides said has been passed on, their FINs included.
  bool complete() const;
  void on_dialled() override;
  void on_server_spoke() override {}  // once dialled, its socket is ours
  void on_dial_failed(telemetry::Flags flags) override { finish(flags, true); }
  void on_dial_closed() override;
  void received(Side& from, base::Slice bytes);
  void receive_ended(Side& from, int error);
  void sent(Side& to, int result);
  void pass_on(Side& to);
  void send_rest(Side& to);
  void unpin(base::Slice& bytes);
  void account();
  void receive_from(Side& from);
  void readable(Side& from);
  void splice_from(Side& from);
  void splice_rest(Side& to);
  void all_sent(Side& to);
  void give_back(Side& to);
  void fail(Side& side);
  void broken(Side& side);
  void last_words(base::Instant now);
  void end_for(Side& to);
  void count_opened();
  void count_bytes();
  void watch(Side& side);
  void keep_alive();
  telemetry::TcpConnection record();
  void finish(telemetry::Flags flags, bool reset);
  void closed(Side& side);
  void remove_if_closed();

  Side client_{*this}, server_{*this};
  const Dialled dialled_;
  int client_error_ = 0;  // with which it had ended before
  std::unique_ptr<Dial> dial_;
  base::Instant started_, last_activity_;
  telemetry::Flags failure_;  // of the side that failed first
  base::Instant give_up_{};   // on telling the other side what it said
  io::MemberTimer<TcpRelay, &TcpRelay::last_words> last_words_{*this};
  base::Duration look_{};  // until last_words() looks again
  bool kept_alive_ = false;
  bool dial_closing_ = false;
  bool finished_ = false;
};

}  // namespace weir::proxy
