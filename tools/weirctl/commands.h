// The commands: each adds itself to the parser. One file each.
#pragma once

#include "weirctl/session.h"

namespace weir::weirctl {

void add_check(CLI::App& app, Session& session);
void add_status(CLI::App& app, Session& session);
void add_describe(CLI::App& app, Session& session);
void add_proxy_config(CLI::App& app, Session& session);
void add_bpf(CLI::App& app, Session& session);
void add_logs(CLI::App& app, Session& session);
void add_analyze(CLI::App& app, Session& session);
void add_why(CLI::App& app, Session& session);
void add_unmanaged(CLI::App& app, Session& session);
void add_adopt(CLI::App& app, Session& session);
void add_bypass(CLI::App& app, Session& session);
void add_verdicts(CLI::App& app, Session& session);
void add_control(CLI::App& app, Session& session);  // log, drain, metrics, version
void add_completion(CLI::App& app, Session& session);

}  // namespace weir::weirctl
