// What the API server says, which may be anything: its fields, and whole answers of small size.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "kubernetes/api_call.h"

namespace weir::kubernetes {

// Null, or empty, where there is none of that name or type.
const nlohmann::json* member(const nlohmann::json& object, const char* key);
std::string text_of(const nlohmann::json* value);
std::string metadata_text(const nlohmann::json& object, const char* key);
// More deeply nested than any object that is read.
inline constexpr int kMaxJsonDepth = 66;
// Discarded if it is no JSON, or nested more deeply: who reads it does so by recursion.
nlohmann::json read_json(std::string_view text);
// What a metav1.Status says, or the beginning of whatever came instead.
std::string said(std::string_view answer);

// The time of day, for those who read it: nothing is decided by it.
using WallTime = std::chrono::system_clock::time_point;
std::string rfc3339(WallTime time);         // metav1.Time: whole seconds
std::string rfc3339_micros(WallTime time);  // metav1.MicroTime

enum class ApiOutcome : uint8_t {
  ok,
  not_found,
  conflict,   // it has been changed meanwhile, or is there already
  forbidden,  // asking again will not help soon
  throttled,  // 429
  refused,    // what was asked is wrong
  failed,     // anything else, silence included
};

struct ApiAnswer {
  int status = 0;  // 0: no answer
  std::string body;
  std::string error;  // why it is not complete
  std::optional<base::Duration> retry_after;

  ApiOutcome outcome() const;
  // What is wrong, for people.
  std::string problem() const;
};

// Who asks one thing at a time and is answered in a few KiB, unless max_answer() says otherwise.
class ShortCaller : public ApiCaller {
 public:
  std::optional<base::Instant> due() const final { return running_ ? std::nullopt : next(); }
  ApiRequest begin(base::Instant now) final;
  base::Duration silence() const final;
  uint64_t progress() const final { return answer_.body.size(); }  // its time is limited besides
  void on_head(int status, std::optional<base::Duration> retry_after) final;
  bool on_bytes(std::string_view bytes) final;
  void on_end(base::Instant now, const std::string& error) final;
  // For the next request.
  void tell_time(WallTime wall) { wall_ = wall; }

 protected:
  virtual std::optional<base::Instant> next() const = 0;
  virtual ApiRequest ask(base::Instant now) = 0;
  virtual void on_answer(base::Instant now, const ApiAnswer& answer) = 0;
  bool running() const { return running_; }
  // Bytes; an answer that is larger has failed.
  virtual size_t max_answer() const { return size_t{64} << 10; }
  // The request that runs, if one does, will not be answered.
  void abandon() { running_ = false; }
  WallTime wall() const { return wall_; }

 private:
  bool running_ = false;
  ApiAnswer answer_;
  WallTime wall_{};
};

}  // namespace weir::kubernetes
