// What it costs to route a request under a configuration: the CPU time of routing::route() alone, for a request as
// rpc_load makes them. Prints nanoseconds a request.
//
//   route_bench HOST PORT MANIFEST...
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kubernetes/manifest_file.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"
#include "routing/route.h"

namespace {

using namespace weir;

constexpr int kBatches = 50, kBatch = 5000;

// CPU time of this thread: other work on the machine does not count.
double cpu_nanoseconds() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

http::Headers request_of(const std::string& authority) {
  http::Headers headers;
  headers.add(":method", "POST");
  headers.add(":scheme", "http");
  headers.add(":path", "/bench.Bench/Reply1x8");
  headers.add(":authority", authority);
  headers.add("te", "trailers");
  headers.add("content-type", "application/grpc");
  headers.add("user-agent", "rpc_load");
  return headers;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: route_bench HOST PORT MANIFEST...\n", stderr);
    return 2;
  }
  const std::string host = argv[1];
  kubernetes::ObjectStore store;
  for (int i = 3; i < argc; ++i) {
    auto text = kubernetes::read_file(argv[i]);
    if (!text) {
      std::fprintf(stderr, "route_bench: %s\n", text.error().message.c_str());
      return 1;
    }
    store.replace(argv[i], kubernetes::read_manifest(*text, argv[i]));
  }
  const auto snapshot = kubernetes::Translator({}).build(store, nullptr);
  const auto* service = snapshot->service_named(host);
  const config::ServicePort* port =
      service ? (*service)->find_port(static_cast<uint16_t>(std::atoi(argv[2]))) : nullptr;
  if (!port) {
    std::fprintf(stderr, "route_bench: there is no Service %s with port %s\n", argv[1], argv[2]);
    return 1;
  }
  const http::Headers headers = request_of(host);
  const config::Labels labels;
  const routing::Request request{headers, port->port, labels, "default"};
  std::vector<double> batches;
  for (int batch = 0; batch < kBatches; ++batch) {
    const double begin = cpu_nanoseconds();
    for (uint64_t i = 0; i < kBatch; ++i) {
      const auto route = routing::route(*snapshot, **service, *port, request, i * 0x9E3779B97F4A7C15ull);
      if (route.outcome != routing::Route::Outcome::cluster) std::abort();
    }
    batches.push_back((cpu_nanoseconds() - begin) / kBatch);
  }
  std::nth_element(batches.begin(), batches.begin() + kBatches / 2, batches.end());
  std::printf("%.1f\n", batches[kBatches / 2]);
  return 0;
}
