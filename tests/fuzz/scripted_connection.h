// Drives a Connection by a script of bytes: what the peer sends (raw bytes, frames,
// well-formed header blocks), what the users of the streams do (send, consume, release, from
// inside events too), and how the transport behaves. Aborts where a promise of the
// contract is broken.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http2/connection.h"

namespace weir::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

class ScriptedConnection final : public http2::ConnectionEvents {
 public:
  ScriptedConnection(http2::Role role, FuzzedDataProvider& input)
      : input_(input), role_(role), limits_(limits(input)), connection_(role, limits_, *this, now_) {
    if (role == http2::Role::server) receive(http2::kPreface);
    if (input_.ConsumeIntegralInRange(0, 15) > 0) {
      receive(frame(http2::FrameType::settings, 0, 0, ""));
      receive(frame(http2::FrameType::settings, http2::kFlagAck, 0, ""));
    }
  }
  ~ScriptedConnection() override {
    acting_ = 100;  // the users only listen now
    connection_.closed();
    require(connection_.finished() && connection_.open_streams() == 0 && !connection_.wants_write());
    for (const auto& user : users_) require(user->stream == nullptr);
  }

  void run() {
    while (input_.remaining_bytes() > 0) {
      switch (input_.ConsumeIntegralInRange(0, 9)) {
        case 0:
          receive(input_.ConsumeRandomLengthString(64));
          break;
        case 1:
        case 2:
          receive(any_frame());
          break;
        case 3:
          receive(message_frame());
          break;
        case 4:
          receive(message_frame());
          connection_.lend();
          break;
        case 5:
          write();
          break;
        case 6:
          now_ += std::chrono::milliseconds(input_.ConsumeIntegral<uint16_t>());
          connection_.tick(now_);
          break;
        case 7:
          if (role_ == http2::Role::client) open();
          break;
        case 8:
          act();
          break;
        case 9:
          finish();
          break;
      }
      check();
    }
    // Whatever happened, writing comes to an end.
    for (int i = 0; i < 10000 && connection_.wants_write(); ++i) write();
    require(!connection_.wants_write());
  }

 private:
  struct User final : http::StreamEvents {
    explicit User(ScriptedConnection& o) : owner(o) {}
    void on_headers(http::Headers& headers, bool end_stream) override {
      require(stream && !ended && !headers.empty());
      ended = end_stream;
      owner.react();
    }
    void on_data(base::Slice data, bool end_stream) override {
      require(stream && !ended && (end_stream || !data.empty()));
      ended = end_stream;
      held += data.size();
      owner.react();
    }
    void on_trailers(http::Headers&) override {
      require(stream && !ended);
      ended = true;
      owner.react();
    }
    void on_reset(const http::Reset& reset) override {
      require(stream != nullptr);
      if (owner.role_ == http2::Role::server) require(!reset.unprocessed || reset.origin == http::Reset::Origin::peer);
      stream = nullptr;
      owner.react();
    }
    void on_sent(size_t bytes) override {
      require(stream && bytes > 0 && bytes <= waiting);
      waiting -= bytes;
      owner.react();
    }
    ScriptedConnection& owner;
    http::Stream* stream = nullptr;
    size_t held = 0;     // received, not consumed
    size_t waiting = 0;  // given to send_data(), not sent
    bool ended = false;
    bool headed = false;
    bool finished = false;
  };

  static http2::Limits limits(FuzzedDataProvider& input) {
    http2::Limits l;
    if (input.ConsumeBool()) return l;
    l.max_concurrent_streams = input.ConsumeIntegralInRange<uint32_t>(0, 5);
    l.initial_stream_window = input.ConsumeIntegralInRange<uint32_t>(0, 100000);
    l.connection_window = input.ConsumeIntegralInRange<uint32_t>(0, 200000);
    l.header_table_size = input.ConsumeIntegralInRange<uint32_t>(0, 8192);
    l.max_header_list_size = input.ConsumeIntegralInRange<uint32_t>(0, 1000);
    l.max_header_fields = input.ConsumeIntegralInRange<uint32_t>(0, 20);
    l.max_unwritten_output = input.ConsumeIntegralInRange<uint32_t>(0, 10000);
    // Small ones, so that short scripts meet them; nothing more is drawn for them, or old seeds would change.
    for (http2::TokenRate& flood : l.floods) flood = {l.max_header_fields, std::chrono::milliseconds(100)};
    l.max_informational_responses = l.max_settings = l.max_concurrent_streams;
    l.progress_timeout = std::chrono::seconds(60);
    return l;
  }

  http::StreamEvents* on_stream(http::Stream& stream) override {
    require(role_ == http2::Role::server);
    User& user = add_user();
    user.stream = &stream;
    react();
    return &user;
  }
  void on_output() override {}
  void on_limit(http2::Limit limit, http2::LimitAction action) override {
    if (action == http2::LimitAction::drain) {
      require(http2::is_flood(limit) && ++drained_ == 1);
    } else if (limit < http2::Limit::concurrent_streams) {
      require(++failed_ == 1);
    }
  }
  void on_capacity() override {
    require(role_ == http2::Role::client);
    if (connection_.can_open() && users_.size() < 100 && input_.remaining_bytes() > 0 && input_.ConsumeBool()) open();
  }

  User& add_user() { return *users_.emplace_back(std::make_unique<User>(*this)); }

  void open() {
    const bool can = connection_.can_open();
    User& user = add_user();
    user.stream = connection_.open(user);
    require((user.stream != nullptr) == can);
  }

  // Inside an event: at times a user acts at once.
  void react() {
    if (acting_ >= 3 || input_.remaining_bytes() == 0 || input_.ConsumeIntegralInRange(0, 3) != 0) return;
    ++acting_;
    act();
    if (input_.remaining_bytes() > 0 && input_.ConsumeIntegralInRange(0, 31) == 0) finish();
    --acting_;
  }

  void act() {
    if (users_.empty()) return;
    User& user = *users_[input_.ConsumeIntegralInRange<size_t>(0, users_.size() - 1)];
    if (!user.stream) return;
    const bool end = input_.ConsumeBool();
    switch (input_.ConsumeIntegralInRange(0, 5)) {
      case 0:
        if (user.finished || (user.headed && role_ == http2::Role::client) || user.waiting > 0) return;
        user.headed = true;
        user.finished = end;
        user.stream->send_headers(head(), end);
        break;
      case 1:
      case 2: {
        if (user.finished || !user.headed) return;
        user.finished = end;
        const size_t size = input_.ConsumeIntegralInRange<size_t>(0, 40000);
        static const std::vector<uint8_t> bytes(40000, 'x');
        const base::Slice slice = input_.ConsumeBool() ? base::Slice::copy_of({bytes.data(), size})
                                                       : base::Slice::borrowed({bytes.data(), size});
        const size_t sent = user.stream->send_data(slice, end);
        require(sent <= size);
        user.waiting += size - sent;
        require(user.stream->all_sent() == (user.waiting == 0));
        break;
      }
      case 3:
        if (user.finished || !user.headed) return;
        user.finished = true;
        user.stream->send_trailers(trailers_);
        break;
      case 4: {
        const size_t n = end ? user.held : input_.ConsumeIntegralInRange<size_t>(0, user.held);
        user.held -= n;
        user.stream->consume(n);
        break;
      }
      case 5:
        std::exchange(user.stream, nullptr)->release(input_.ConsumeIntegral<uint8_t>());
        break;
    }
  }

  void finish() {
    switch (input_.ConsumeIntegralInRange(0, 7)) {
      case 0:
        connection_.abort(input_.ConsumeIntegral<uint8_t>());
        require(!connection_.usable());
        break;
      case 1:
        if (acting_ == 0) connection_.closed(input_.ConsumeIntegral<uint8_t>());
        break;
      case 2:
        connection_.drain();
        require(!connection_.usable());
        break;
      default:
        break;
    }
  }

  const http::Headers& head() const { return role_ == http2::Role::server ? response_ : request_; }

  static std::string frame(http2::FrameType type, uint8_t flags, uint32_t id, std::string_view payload) {
    std::string bytes(http2::kFrameHeaderSize, '\0');
    http2::write_frame_header(reinterpret_cast<uint8_t*>(bytes.data()), payload.size(), type, flags, id);
    return bytes.append(payload);
  }
  uint32_t any_id() { return input_.ConsumeIntegralInRange<uint32_t>(0, 40); }

  std::string any_frame() {
    const auto type = static_cast<http2::FrameType>(input_.ConsumeIntegralInRange<uint8_t>(0, 11));
    const auto flags = input_.ConsumeIntegral<uint8_t>();
    const uint32_t id = any_id();
    return frame(type, flags, id, input_.ConsumeRandomLengthString(40));
  }

  // What a well-behaved peer would send, most of the time.
  std::string message_frame() {
    const uint32_t id = any_id() | 1;
    const bool end = input_.ConsumeBool();
    const uint8_t flags = end ? http2::kFlagEndStream : 0;
    switch (input_.ConsumeIntegralInRange(0, 7)) {
      case 0:
      case 1: {
        http::Headers headers = role_ == http2::Role::server ? request_ : response_;
        if (input_.ConsumeIntegralInRange(0, 3) == 0) {
          headers.add(input_.ConsumeRandomLengthString(20), input_.ConsumeRandomLengthString(40));
        }
        return frame(http2::FrameType::headers, flags | http2::kFlagEndHeaders, id, block(headers));
      }
      case 2:
        return frame(http2::FrameType::headers, http2::kFlagEndStream | http2::kFlagEndHeaders, id, block(trailers_));
      case 3:
      case 4:
        return frame(http2::FrameType::data, flags, id,
                     std::string(input_.ConsumeIntegralInRange<size_t>(0, 16384), 'd'));
      case 5: {
        std::string setting(http2::kSettingSize, '\0');
        setting[1] = static_cast<char>(input_.ConsumeIntegralInRange(1, 6));
        http2::write_u32(reinterpret_cast<uint8_t*>(setting.data()) + 2,
                         input_.ConsumeIntegralInRange<uint32_t>(0, 100000));
        return frame(http2::FrameType::settings, 0, 0, setting);
      }
      case 6:
        // The answer to drain()'s PING, if it was sent.
        return frame(http2::FrameType::ping, http2::kFlagAck, 0, "weirdrn1");
      default: {
        std::string increment(4, '\0');
        http2::write_u32(reinterpret_cast<uint8_t*>(increment.data()),
                         input_.ConsumeIntegralInRange<uint32_t>(1, 1 << 20));
        return frame(http2::FrameType::window_update, 0, input_.ConsumeBool() ? 0 : id, increment);
      }
    }
  }
  std::string block(const http::Headers& headers) {
    std::string bytes(encoder_.prepare(headers), '\0');
    bytes.resize(encoder_.encode(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
    return bytes;
  }

  void receive(std::string_view bytes) {
    const size_t first = input_.ConsumeIntegralInRange<size_t>(0, 3) == 0 ? bytes.size() / 2 : bytes.size();
    for (const std::string_view part : {bytes.substr(0, first), bytes.substr(first)}) {
      connection_.receive(base::Slice::copy_of({reinterpret_cast<const uint8_t*>(part.data()), part.size()}), now_);
    }
  }

  void write() {
    const bool wanted = connection_.wants_write();
    std::array<iovec, 16> out;
    const size_t n = connection_.gather({out.data(), input_.ConsumeIntegralInRange<size_t>(1, out.size())});
    size_t size = 0;
    uint32_t sum = 0;
    for (size_t i = 0; i < n; ++i) {
      size += out[i].iov_len;
      for (size_t k = 0; k < out[i].iov_len; k += 97) sum += static_cast<const uint8_t*>(out[i].iov_base)[k];
    }
    require(wanted || size == 0);
    read_ = sum;
    const size_t left = input_.remaining_bytes() > 0 && input_.ConsumeBool() ? size / 2 : 0;
    connection_.written(size - left);
  }

  void check() {
    uint32_t held = 0;
    for (const auto& user : users_) held += user->stream != nullptr;
    require(held == connection_.open_streams());
    if (connection_.can_open()) require(connection_.usable());
    if (connection_.finished()) require(held == 0);
    if (role_ == http2::Role::server) require(held <= limits_.max_concurrent_streams);
    // What a limit was said to do has been done.
    if (drained_ > 0 || failed_ > 0) require(!connection_.usable());
    if (failed_ > 0) require(*connection_.error() != '\0' && held == 0);
    size_t waiting = 0;
    for (const auto& user : users_) waiting += user->stream ? user->waiting : 0;
    const size_t framed = connection_.held_bytes() - waiting;
    require(connection_.held_bytes() >= waiting && framed <= limits_.max_unwritten_output + (1 << 20));
  }

  static http::Headers fields(std::initializer_list<std::pair<const char*, const char*>> list) {
    http::Headers headers;
    for (const auto& [name, value] : list) headers.add(name, value);
    return headers;
  }

  FuzzedDataProvider& input_;
  const http2::Role role_;
  const http2::Limits limits_;
  base::Instant now_;
  std::vector<std::unique_ptr<User>> users_;
  int acting_ = 0;
  int drained_ = 0, failed_ = 0;  // by a limit
  volatile uint32_t read_ = 0;    // of the gathered bytes, so that AddressSanitizer sees them
  const http::Headers request_ =
      fields({{":method", "POST"}, {":scheme", "http"}, {":path", "/a/b"}, {":authority", "a"}, {"te", "trailers"}});
  const http::Headers response_ = fields({{":status", "200"}, {"content-type", "application/grpc"}});
  const http::Headers trailers_ = fields({{"grpc-status", "0"}});
  http2::HpackEncoder encoder_{4096};
  http2::Connection connection_;
};

}  // namespace weir::fuzz
