#include "config/routes.h"

#include <algorithm>

namespace weir::config {

const RetryPolicy& default_retry_policy() {
  static const RetryPolicy policy = [] {
    RetryPolicy made;
    for (const RetryOn condition :
         {RetryOn::connect_failure, RetryOn::refused_stream, RetryOn::unavailable, RetryOn::cancelled})
      made.conditions |= static_cast<uint32_t>(condition);
    return made;
  }();
  return policy;
}

bool VirtualService::visible_in(std::string_view client) const {
  return export_to.empty() || std::find(export_to.begin(), export_to.end(), client) != export_to.end();
}

}  // namespace weir::config
