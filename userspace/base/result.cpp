#include "base/result.h"

#include <cstring>

namespace weir::base {

Error system_error(std::string what, int code) {
  char text[128];
  what += ": ";
  what += strerror_r(code, text, sizeof text);
  return Error{std::move(what), code};
}

}  // namespace weir::base
