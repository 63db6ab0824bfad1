#include "config/routes.h"

#include <algorithm>

namespace weir::config {

RetryPolicy default_retry_policy() {
  RetryPolicy policy;
  for (const RetryOn condition :
       {RetryOn::connect_failure, RetryOn::refused_stream, RetryOn::unavailable, RetryOn::cancelled})
    policy.conditions |= static_cast<uint32_t>(condition);
  return policy;
}

bool VirtualService::visible_in(std::string_view client) const {
  return export_to.empty() || std::find(export_to.begin(), export_to.end(), client) != export_to.end();
}

}  // namespace weir::config
