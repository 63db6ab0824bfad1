#include "load_generator.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "load_connection.h"

namespace bench {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kDrain = 5 * kSecond;

LoadConnection::Form form_of(const LoadOptions& options) {
  LoadConnection::Form form;
  form.path = "/bench.Load/" + options.method;
  Wanted wanted;
  parse_path(form.path, wanted);
  form.kind = wanted.kind;
  form.message = message(options.request_size);
  form.rounds = options.rounds;
  form.varying = options.varying;
  return form;
}

class Load : public CallEvents {
 public:
  Load(const LoadOptions& options, void (*window_begins)())
      : options_(options),
        window_begins_(window_begins),
        form_(form_of(options)),
        sampler_(options.watch, options.cgroup),
        poll_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~Load() override { close(poll_); }

  LoadResult run() {
    connect();
    const uint64_t start = now_ns();
    begin_ = start + static_cast<uint64_t>(options_.warm_up * 1e9);
    end_ = UINT64_MAX;
    due_ = start;
    if (options_.rate == 0) fill();
    while (phase_ != Phase::done && alive_ > 0) turn();
    if (running() > 0 && form_.kind != Kind::hold) fail("unfinished", running());
    return std::move(result_);
  }

 private:
  enum class Phase { warm_up, window, drain, done };

  void connect() {
    for (const Target& target : options_.targets) {
      enter(target);
      for (unsigned i = 0; i < options_.connections; i++) {
        auto& made =
            connections_.emplace_back(std::make_unique<LoadConnection>(dial(target), to_string(target), *this));
        if (options_.not_http2) made->prepend(kNotHttp2);
        epoll_event every{EPOLLIN | EPOLLOUT | EPOLLET, {.u64 = connections_.size() - 1}};
        epoll_ctl(poll_, EPOLL_CTL_ADD, made->fd(), &every);
        alive_++;
      }
    }
  }

  void fill() {
    for (size_t i = 0; i < connections_.size(); i++) {
      for (unsigned n = 0; n < options_.streams; n++) connections_[i]->begin(form_, now_ns());
      flush(i);
    }
  }

  void turn() {
    const uint64_t now = now_ns();
    if (phase_ == Phase::warm_up && now >= begin_) {
      if (window_begins_ != nullptr) window_begins_();
      before_ = sampler_.now();
      window_start_ = now_ns();
      // From here: sampling may take long where the core is shared, and the window is to be whole.
      end_ = window_start_ + static_cast<uint64_t>(options_.duration * 1e9);
      phase_ = Phase::window;
    } else if (phase_ == Phase::window && now >= end_) {
      result_.cpu = sampler_.now() - before_;
      result_.seconds = static_cast<double>(now_ns() - window_start_) / 1e9;
      phase_ = Phase::drain;
      for (auto& connection : connections_) {
        if (connection) connection->stop_rounds();
      }
    } else if (phase_ == Phase::drain && (running() == 0 || now >= end_ + kDrain || form_.kind == Kind::hold)) {
      phase_ = Phase::done;
      return;
    }
    if (options_.rate > 0 && phase_ != Phase::drain) send_due(now);
    wait(now);
  }

  void send_due(uint64_t now) {
    for (; due_ <= now && due_ < end_; due_ += static_cast<uint64_t>(1e9 / options_.rate)) {
      const size_t index = next_++ % connections_.size();
      if (!connections_[index]) continue;
      connections_[index]->begin(form_, due_);
      touched_.push_back(index);
    }
    for (size_t index : touched_) flush(index);
    touched_.clear();
  }

  void wait(uint64_t now) {
    uint64_t until = phase_ == Phase::warm_up ? begin_ : phase_ == Phase::window ? end_ : now + kSecond / 100;
    if (options_.rate > 0 && phase_ != Phase::drain) until = std::min(until, due_);
    const uint64_t left = until > now ? until - now : 0;
    const timespec timeout{static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
    epoll_event events[256];
    const int count = epoll_pwait2(poll_, events, 256, &timeout, nullptr);
    for (int i = 0; i < count; i++) {
      const size_t index = events[i].data.u64;
      if (!connections_[index]) continue;
      if (connections_[index]->receive()) {
        flush(index);
      } else {
        lose(index);
      }
    }
  }

  void flush(size_t index) {
    if (connections_[index] && !connections_[index]->send()) lose(index);
  }

  void lose(size_t index) {
    fail("connection lost", std::max<size_t>(connections_[index]->running(), 1));
    connections_[index].reset();
    alive_--;
  }

  void fail(const std::string& what, uint64_t count) { result_.errors[what] += count; }

  uint64_t running() const {
    uint64_t sum = 0;
    for (const auto& connection : connections_) sum += connection ? connection->running() : 0;
    return sum;
  }

  void count(const Call& call) {
    const uint64_t now = now_ns();
    result_.total++;
    if (phase_ == Phase::window) {
      result_.completed++;
      if (call.backend >= 0) {
        const auto number = static_cast<size_t>(call.backend);
        if (number >= result_.backends.size()) result_.backends.resize(number + 1);
        result_.backends[number]++;
      }
    }
    const bool open = options_.rate > 0;
    if (open ? call.began_ns >= begin_ : phase_ == Phase::window) result_.latency.record(now - call.began_ns);
  }

  void on_round(Call& call) override { count(call); }

  void on_end(LoadConnection& connection, Call& call, const std::string& error) override {
    if (!error.empty()) fail(error, 1);
    if (error.empty() && form_.kind == Kind::reply) count(call);
    if (options_.rate == 0 && phase_ != Phase::drain && connection.usable()) connection.begin(form_, now_ns());
  }

  const LoadOptions& options_;
  void (*window_begins_)();
  LoadConnection::Form form_;
  CpuSampler sampler_;
  int poll_;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  std::vector<size_t> touched_;
  size_t alive_ = 0, next_ = 0;
  Phase phase_ = Phase::warm_up;
  uint64_t begin_ = 0, end_ = 0, due_ = 0, window_start_ = 0;
  CpuTimes before_;
  LoadResult result_;
};

}  // namespace

LoadResult run_load(const LoadOptions& options, void (*window_begins)()) { return Load(options, window_begins).run(); }

}  // namespace bench
