// What all commands share: the global flags, and the conventions of operators.md
// (data on stdout, messages on stderr, exit codes of sysexits).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace weir::weirctl {

enum Exit : int {
  kOk = 0,
  kUsage = 64,     // the command line
  kData = 65,      // what was asked for is not there, or does not answer
  kFindings = 79,  // answered, and something is wrong
};

enum class Format { table, wide, json, yaml };

struct Settings {
  std::string run_dir = "/run/weir";
  std::string bpf_dir = "/sys/fs/bpf/weir";
  std::string namespace_name;  // empty: any
  Format format = Format::table;
  bool watch = false;
  bool color = false;
};

// The chosen command sets `run` while the parser works; main calls it afterwards.
struct Session {
  Settings settings;
  std::function<int()> run;
};

// Writes "weirctl: message" to stderr; returns `exit`.
int fail(const std::string& message, Exit exit = kData);

// A subcommand, with `run` to be called if it is the chosen one.
CLI::App* add_command(CLI::App& parent, Session& session, const std::string& name, const std::string& help,
                      std::function<int()> run);

}  // namespace weir::weirctl
