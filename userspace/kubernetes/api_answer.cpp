#include "kubernetes/api_answer.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr base::Duration kTimeLimit = std::chrono::seconds(5);

std::string seconds_of(WallTime time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(time));
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts)};
}

}  // namespace

const json* member(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string text_of(const json* value) {
  return value && value->is_string() ? value->get<std::string>() : std::string();
}

std::string metadata_text(const json& object, const char* key) {
  const json* metadata = member(object, "metadata");
  return metadata ? text_of(member(*metadata, key)) : std::string();
}

json read_json(std::string_view text) {
  bool too_deep = false;
  json value = json::parse(
      text,
      [&](int depth, json::parse_event_t, json&) {
        too_deep |= depth > kMaxJsonDepth;
        return !too_deep;
      },
      false);
  return too_deep ? json(json::value_t::discarded) : value;
}

std::string said(std::string_view answer) {
  const json status = json::parse(answer, nullptr, false);
  std::string message = text_of(member(status, "message"));
  if (message.empty()) message = std::string(answer.substr(0, 200));
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return message;
}

std::string rfc3339(WallTime time) { return seconds_of(time) + "Z"; }

std::string rfc3339_micros(WallTime time) {
  const auto part = time - std::chrono::floor<std::chrono::seconds>(time);
  char text[16];
  std::snprintf(text, sizeof text, ".%06dZ",
                static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(part).count()));
  return seconds_of(time) + text;
}

ApiOutcome ApiAnswer::outcome() const {
  if (!error.empty()) return ApiOutcome::failed;
  switch (status) {
    case 200:
    case 201:
      return ApiOutcome::ok;
    case 403:
      return ApiOutcome::forbidden;
    case 404:
      return ApiOutcome::not_found;
    case 409:
      return ApiOutcome::conflict;
    case 429:
      return ApiOutcome::throttled;
    case 400:
    case 405:
    case 413:
    case 415:
    case 422:
      return ApiOutcome::refused;
    default:
      return ApiOutcome::failed;
  }
}

std::string ApiAnswer::problem() const {
  if (!error.empty()) return error;
  return std::to_string(status) + " " + said(body);
}

ApiRequest ShortCaller::begin(base::Instant now) {
  answer_ = {};
  ApiRequest request = ask(now);
  request.time_limit = kTimeLimit;
  running_ = true;
  return request;
}

// The time limit comes first: it tells whether the connection is to blame, which others may share.
base::Duration ShortCaller::silence() const { return kTimeLimit + std::chrono::seconds(1); }

void ShortCaller::on_head(int status, std::optional<base::Duration> retry_after) {
  answer_.status = status;
  answer_.retry_after = retry_after;
}

bool ShortCaller::on_bytes(std::string_view bytes) {
  if (answer_.body.size() + bytes.size() > max_answer()) {
    answer_.error = "the answer is larger than " + std::to_string(max_answer() >> 10) + " KiB";
    return false;
  }
  answer_.body.append(bytes);
  return true;
}

void ShortCaller::on_end(base::Instant now, const std::string& error) {
  running_ = false;
  if (answer_.error.empty()) answer_.error = error;
  on_answer(now, std::exchange(answer_, {}));
}

}  // namespace weir::kubernetes
