// A Connection of the server role against any peer and any users: see scripted_connection.h.
#include "scripted_connection.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  weir::fuzz::ScriptedConnection connection(weir::http2::Role::server, input);
  connection.run();
  return 0;
}
