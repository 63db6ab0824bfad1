// weirctl: asks the node's agent through its admin socket and reads the pinned BPF maps.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>

#include "weirctl/commands.h"

namespace {

using namespace weir::weirctl;

void add_global_flags(CLI::App& app, Settings& settings, bool& all_namespaces) {
  const std::map<std::string, Format> formats{
      {"table", Format::table}, {"wide", Format::wide}, {"json", Format::json}, {"yaml", Format::yaml}};
  app.add_option("-o,--output", settings.format, "table, wide, json or yaml")
      ->transform(CLI::Transformer(formats))
      ->type_name("FORMAT")
      ->option_text("FORMAT (table|wide|json|yaml)");
  app.add_flag("-w,--watch", settings.watch, "Show it again every two seconds");
  app.add_option("-n,--namespace", settings.namespace_name, "Only objects of this namespace");
  app.add_flag("-A,--all-namespaces", all_namespaces, "Objects of all namespaces (the default)");
  app.add_option("--run-dir", settings.run_dir, "Where the agent's admin socket is")
      ->envname("WEIR_RUN_DIR")
      ->capture_default_str();
  app.add_option("--bpf-dir", settings.bpf_dir, "Where the BPF maps are pinned")
      ->envname("WEIR_BPF_DIR")
      ->capture_default_str();
}

bool use_color() {
  const char* no_color = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) && (!no_color || !*no_color);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"weirctl shows and steers weir, the gRPC data plane, on this node", "weirctl"};
  app.require_subcommand(1);
  app.footer("Exit codes: 0 ok, 64 wrong usage, 65 what was asked for is not there or does not answer, 79 findings.");
  Session session;
  bool all_namespaces = false;
  add_global_flags(app, session.settings, all_namespaces);
  add_check(app, session);
  add_status(app, session);
  add_describe(app, session);
  add_proxy_config(app, session);
  add_bpf(app, session);
  add_logs(app, session);
  add_analyze(app, session);
  add_why(app, session);
  add_unmanaged(app, session);
  add_adopt(app, session);
  add_bypass(app, session);
  add_verdicts(app, session);
  add_control(app, session);
  add_completion(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  if (all_namespaces) session.settings.namespace_name.clear();
  session.settings.color = use_color();
  return session.run();
}
