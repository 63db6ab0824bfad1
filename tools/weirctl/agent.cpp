#include "weirctl/agent.h"

#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "weir/admin_api.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;

// Why nobody answers, and what to do.
base::Error unreachable(const std::string& socket) {
  std::string message = "the agent does not answer on " + socket + ": ";
  if (::access(socket.c_str(), R_OK | W_OK) == 0) {
    message += "it ended without removing its socket, or hangs. ";
  } else if (errno == EACCES) {
    return base::Error{message + "permission denied; run weirctl as root", ECONNREFUSED};
  } else {
    message += "is it running on this node? (--run-dir says where its socket is) ";
  }
  return base::Error{message +
                         "While it is down, connections of pods go the plain way; `weirctl bpf` and `weirctl "
                         "bypass` work without it.",
                     ECONNREFUSED};
}

// An answer that is no success has the reason as JSON, or as text.
base::Error refused(const httplib::Response& response) {
  const json body = json::parse(response.body, nullptr, false);
  const int code = response.status == 501 ? EOPNOTSUPP : 0;
  if (body.is_object() && body.contains(admin_api::key::error) && body[admin_api::key::error].is_string()) {
    return base::Error{body[admin_api::key::error].get<std::string>(), code};
  }
  return base::Error{"the agent answers " + std::to_string(response.status) + ": " + response.body, code};
}

base::Result<json> parse(const std::string& body, const std::string& path) {
  json value = json::parse(body, nullptr, false);
  if (value.is_discarded()) return base::Error{"the agent's answer to " + path + " is not JSON"};
  return value;
}

httplib::Client connect(const std::string& socket, std::chrono::seconds patience) {
  httplib::Client client(socket);
  client.set_address_family(AF_UNIX);
  client.set_connection_timeout(2);
  client.set_read_timeout(patience);
  return client;
}

std::string with_parameters(const std::string& path, const Parameters& parameters) {
  return parameters.empty() ? path
                            : httplib::append_query_params(path, httplib::Params(parameters.begin(), parameters.end()));
}

}  // namespace

Agent::Agent(const std::string& run_dir, std::chrono::seconds patience)
    : socket_(run_dir + "/" + admin_api::kSocketName), patience_(patience) {}

base::Result<std::string> Agent::get_text(const std::string& path, const Parameters& parameters) const {
  httplib::Client client = connect(socket_, patience_);
  auto response = client.Get(with_parameters(path, parameters));
  if (!response) return unreachable(socket_);
  if (response->status != 200) return refused(*response);
  return std::move(response->body);
}

base::Result<json> Agent::get(const std::string& path, const Parameters& parameters) const {
  auto body = get_text(path, parameters);
  if (!body) return body.error();
  return parse(*body, path);
}

base::Result<json> Agent::post(const std::string& path, const Parameters& parameters) const {
  httplib::Client client = connect(socket_, patience_);
  auto response = client.Post(with_parameters(path, parameters));
  if (!response) return unreachable(socket_);
  if (response->status / 100 != 2) return refused(*response);
  return parse(response->body, path);
}

}  // namespace weir::weirctl
