#include "weirctl/output.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <chrono>
#include <iostream>
#include <thread>

namespace weir::weirctl {
namespace {

using nlohmann::json;

constexpr auto kWatchEvery = std::chrono::seconds(2);

void emit(const json& value, YAML::Emitter& out) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, member] : value.items()) {
      out << YAML::Key << key << YAML::Value;
      emit(member, out);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    if (value.empty()) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (const json& element : value) emit(element, out);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    // Quoted, so that "on", "1e3" and "" stay strings.
    out << YAML::DoubleQuoted << value.get<std::string>();
  } else if (value.is_boolean()) {
    out << value.get<bool>();
  } else if (value.is_number_unsigned()) {
    out << value.get<uint64_t>();
  } else if (value.is_number_integer()) {
    out << value.get<int64_t>();
  } else if (value.is_number()) {
    out << value.get<double>();
  } else {
    out << YAML::Null;
  }
}

}  // namespace

int fail(const std::string& message, Exit exit) {
  std::cerr << "weirctl: " << message << "\n";
  return exit;
}

CLI::App* add_command(CLI::App& parent, Session& session, const std::string& name, const std::string& help,
                      std::function<int()> run) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->fallthrough();  // global flags may follow the command
  command->callback([&session, run = std::move(run)] { session.run = run; });
  return command;
}

std::string to_yaml(const json& value) {
  YAML::Emitter out;
  emit(value, out);
  return std::string(out.c_str()) + "\n";
}

std::string to_text(const json& value, const Settings& settings, const Render& render) {
  switch (settings.format) {
    case Format::json:
      return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
    case Format::yaml:
      return to_yaml(value);
    case Format::table:
    case Format::wide:
      break;
  }
  return render(value, settings.format == Format::wide, settings.color);
}

int show(const Settings& settings, const std::function<base::Result<json>()>& fetch, const Render& render) {
  const bool clear = settings.watch && ::isatty(STDOUT_FILENO);
  for (;;) {
    const auto data = fetch();
    if (clear) std::cout << "\x1b[H\x1b[2J";
    if (data) std::cout << to_text(data.value(), settings, render) << std::flush;
    if (!data && !settings.watch) return fail(data.error().message);
    if (!data) fail(data.error().message);
    if (!settings.watch) return kOk;
    std::this_thread::sleep_for(kWatchEvery);
    if (!clear) std::cout << "\n";
  }
}

}  // namespace weir::weirctl
