// The grpc-timeout header field: at most eight digits and a unit (H M S m u n).
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "base/clock.h"

namespace weir::grpc {

// nullopt for what is not a timeout. What a Duration can't hold is Duration::max(); zero is
// legal here and means that the deadline has passed.
std::optional<base::Duration> parse_timeout(std::string_view value);

// A timeout as text, in place: no allocation.
class TimeoutText {
 public:
  // In the finest unit that eight digits can hold, rounded up, so that less than one unit of time
  // is lost and a deadline is never made to pass early. At least "1n".
  explicit TimeoutText(base::Duration timeout);
  std::string_view view() const { return {text_.data() + begin_, text_.size() - begin_}; }

 private:
  std::array<char, 9> text_;
  size_t begin_ = text_.size();
};

}  // namespace weir::grpc
