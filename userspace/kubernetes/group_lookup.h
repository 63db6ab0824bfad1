// GroupLookup asks the API server now and then for a group of resources ("networking.istio.io"), while some of them are
// missing: their CRDs may be installed later. One small request stands for all of them and their versions, and comes
// less often the longer it is in vain. Sans I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "kubernetes/api_answer.h"

namespace weir::kubernetes {

struct GroupLookupSettings {
  base::Duration first = std::chrono::seconds(10);  // half to one and a half; doubled each time
  base::Duration longest = std::chrono::seconds(30);
};

class GroupLookup final : public ShortCaller {
 public:
  // Of the group's answer.
  enum class News : uint8_t {
    none,
    absent,     // it is not there, and so nothing of it
    look_again  // what is missing may be there now
  };

  GroupLookup(std::string group, GroupLookupSettings settings, uint64_t seed)
      : group_(std::move(group)), settings_(settings), random_(seed) {}

  const std::string& group() const { return group_; }
  // Whether some of it is missing. Nothing is asked otherwise.
  void want(bool wanted, base::Instant now);
  // What has been heard since the last call.
  News take_news() { return std::exchange(news_, News::none); }

 private:
  std::optional<base::Instant> next() const override { return next_; }
  ApiRequest ask(base::Instant now) override;
  void on_answer(base::Instant now, const ApiAnswer& answer) override;
  void wait(base::Instant now);

  const std::string group_;
  const GroupLookupSettings settings_;
  std::mt19937_64 random_;
  std::optional<base::Instant> next_;
  base::Duration wait_{};
  bool wanted_ = false, present_ = false;
  News news_ = News::none;
};

}  // namespace weir::kubernetes
