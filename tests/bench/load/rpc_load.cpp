// The bench's load generator; its result is one JSON object on stdout. Times in the window are the ones
// around which CPU is sampled, so calls and CPU always belong together.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>

#include "calls.h"
#include "h2_socket.h"
#include "load_generator.h"

namespace bench {
namespace {

void say_window() {
  std::puts("window");
  std::fflush(stdout);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::LoadOptions options;
  std::vector<std::string> targets;
  bool announce = false;
  CLI::App app{"Calls over HTTP/2, closed or open loop; prints JSON"};
  app.add_option("targets", targets, "ADDRESS:PORT, or ADDRESS:PORT@PID to dial from that process's pod")->required();
  app.add_option("-c,--connections", options.connections, "Connections to each target");
  app.add_option("-m,--streams", options.streams, "Calls at a time on each connection; 0: idle connections");
  app.add_option("--rate", options.rate, "Open loop: calls a second over all connections");
  app.add_option("--warm-up", options.warm_up, "Seconds before the window");
  app.add_option("--duration", options.duration, "Seconds of the window");
  app.add_option("--method", options.method, "Reply<count>x<size>, Echo or Hold");
  app.add_option("--request-size", options.request_size, "Bytes of each request message");
  app.add_flag("--varying", options.varying, "A fresh trace id and another grpc-timeout in each call");
  app.add_flag("--not-http2", options.not_http2, "Bytes ahead of the preface that no proxy takes for HTTP/2");
  app.add_option("--watch", options.watch, "Process whose CPU is measured");
  app.add_option("--cgroup", options.cgroup, "Folder of a cgroup whose CPU is measured");
  app.add_flag("--announce", announce, "Print a line when the window begins");
  CLI11_PARSE(app, argc, argv);
  try {
    for (const std::string& text : targets) options.targets.push_back(bench::parse_target(text));
    bench::raise_descriptor_limit();
    const bench::LoadResult result = bench::run_load(options, announce ? bench::say_window : nullptr);
    std::puts(bench::to_json(result).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rpc_load: %s\n", error.what());
    return 1;
  }
}
