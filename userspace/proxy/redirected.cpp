#include "proxy/redirected.h"

#include <sys/random.h>

namespace weir::proxy {

bool Redirected::may_send() {
  if (unread_.exhausted()) return false;
  if (unread_.probe_due()) {
    // Not to be guessed: who does not read could still acknowledge.
    uint64_t payload = 0;
    while (getrandom(&payload, sizeof payload, 0) != sizeof payload) {
    }
    unread_.probed(connection_.probe(payload));
  }
  return true;
}

}  // namespace weir::proxy
