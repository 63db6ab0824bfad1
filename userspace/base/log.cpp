#include "base/log.h"

#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace weir::base {
namespace {

// %v with JSON string escapes, for the JSON pattern.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    for (char c : message.payload) {
      auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20) {
        fmt::format_to(fmt::appender(out), "\\u{:04x}", byte);
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JsonMessage>(); }
};

Result<spdlog::level::level_enum> parse_level(const std::string& level) {
  for (auto value : {spdlog::level::trace, spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                     spdlog::level::err, spdlog::level::off}) {
    auto name = spdlog::level::to_string_view(value);
    if (level == std::string_view(name.data(), name.size())) return value;
  }
  if (level == "warn") return spdlog::level::warn;
  return Error{"unknown log level '" + level + "': expected trace, debug, info, warn, error or off"};
}

}  // namespace

Result<void> start_logging(const std::string& level, LogFormat format) {
  auto parsed = parse_level(level);
  if (!parsed) return parsed.error();
  constexpr size_t kQueuedLines = 8192;
  spdlog::init_thread_pool(kQueuedLines, 1);
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  auto logger = std::make_shared<spdlog::async_logger>("weir", sink, spdlog::thread_pool(),
                                                       spdlog::async_overflow_policy::overrun_oldest);
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (format == LogFormat::json) {
    formatter->add_flag<JsonMessage>('*').set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","msg":"%*"})");
  } else {
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(*parsed);
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
  spdlog::flush_every(std::chrono::seconds(1));
  return {};
}

Result<void> set_log_level(const std::string& level) {
  auto parsed = parse_level(level);
  if (!parsed) return parsed.error();
  spdlog::set_level(*parsed);
  return {};
}

void stop_logging() { spdlog::shutdown(); }

}  // namespace weir::base
