// weirctl completion bash: made from the parser, so that it has what the parser has.
#include <iostream>

#include "weirctl/commands.h"

namespace weir::weirctl {
namespace {

// One case per command path: what may follow it.
void append_cases(const CLI::App& app, const std::string& path, std::string& out) {
  std::string words;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_name().empty()) words += command->get_name() + " ";
  }
  const std::function<void(const CLI::App&)> add_options = [&](const CLI::App& of) {
    for (const CLI::Option* option : of.get_options()) {
      for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
      for (const std::string& name : option->get_snames()) words += "-" + name + " ";
    }
    for (const CLI::App* group : of.get_subcommands(nullptr)) {
      if (group->get_name().empty()) add_options(*group);  // an option group
    }
  };
  add_options(app);
  out += "    '" + path + "') words='" + words + "' ;;\n";
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_name().empty()) append_cases(*command, path + " " + command->get_name(), out);
  }
}

std::string bash_completion(const CLI::App& app) {
  std::string cases;
  append_cases(app, "weirctl", cases);
  return R"(# bash completion of weirctl: source <(weirctl completion bash)
_weirctl() {
  local path=weirctl word words=
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || path="$path $word"
  done
  while :; do
    case "$path" in
)" + cases +
         R"(    esac
    [[ -n $words || $path == weirctl ]] && break
    path="${path% *}"
  done
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _weirctl weirctl
)";
}

}  // namespace

void add_completion(CLI::App& app, Session& session) {
  CLI::App* completion = app.add_subcommand("completion", "A script that completes weirctl's words");
  completion->fallthrough();
  completion->require_subcommand(1);
  add_command(*completion, session, "bash", "For bash: source <(weirctl completion bash)", [&app] {
    std::cout << bash_completion(app);
    return static_cast<int>(kOk);
  });
}

}  // namespace weir::weirctl
