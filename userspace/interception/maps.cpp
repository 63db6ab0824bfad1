#include "interception/maps.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace weir::interception {
namespace {

base::Error map_error(const char* what, const char* map) {
  return base::system_error(std::string(what) + " the BPF map " + map, errno);
}

// Every row of a hash map. By batch: a row deleted meanwhile would send an iteration key by key back to the start.
template <class Key, class Value>
base::Result<std::vector<std::pair<Key, Value>>> all_rows(int map, const char* name) {
  std::vector<std::pair<Key, Value>> rows;
  uint32_t capacity = 256;  // grown when one bucket holds more
  std::vector<Key> keys(capacity);
  std::vector<Value> values(capacity);
  uint32_t position = 0;
  bool first = true;
  for (;;) {
    uint32_t count = capacity, next = 0;
    int failed =
        bpf_map_lookup_batch(map, first ? nullptr : &position, &next, keys.data(), values.data(), &count, nullptr);
    if (failed && errno == ENOSPC) {
      capacity *= 2;
      keys.resize(capacity);
      values.resize(capacity);
      continue;
    }
    if (failed && errno != ENOENT) return map_error("read", name);
    for (uint32_t i = 0; i < count; ++i) rows.emplace_back(keys[i], values[i]);
    if (failed) return rows;
    position = next;
    first = false;
  }
}

base::Result<void> update(int map, const char* name, const void* key, const void* value) {
  if (bpf_map_update_elem(map, key, value, BPF_ANY) != 0) return map_error("write a row of", name);
  return {};
}

// Removing what is not there is success: the row is gone.
base::Result<void> remove(int map, const char* name, const void* key) {
  if (bpf_map_delete_elem(map, key) != 0 && errno != ENOENT) return map_error("delete a row of", name);
  return {};
}

}  // namespace

weir_address to_abi(const base::SocketAddress& address) {
  weir_address abi{};
  std::copy(address.ip.bytes.begin(), address.ip.bytes.end(), abi.ip);
  abi.port_be = htons(address.port);
  return abi;
}

base::SocketAddress from_abi(const weir_address& address) {
  base::SocketAddress result;
  std::copy(std::begin(address.ip), std::end(address.ip), result.ip.bytes.begin());
  result.port = ntohs(address.port_be);
  return result;
}

base::Result<Maps> Maps::open(const std::string& bpf_dir) {
  Maps maps;
  maps.directory_ = bpf_dir + "/v" + std::to_string(WEIR_ABI_VERSION);
  const std::pair<const char*, base::Fd*> pins[] = {
      {"services", &maps.services_}, {"pods", &maps.pods_},         {"heartbeats", &maps.heartbeats_},
      {"config", &maps.config_},     {"stats", &maps.stats_},       {"pending", &maps.pending_},
      {"original", &maps.original_}, {"mark", &maps.mark_},         {"redirects", &maps.redirects_},
      {"accounts", &maps.accounts_}, {"verdicts", &maps.verdicts_}, {"brakes", &maps.brakes_}};
  for (auto [name, fd] : pins) {
    std::string path = maps.directory_ + "/maps/" + name;
    *fd = base::Fd(bpf_obj_get(path.c_str()));
    if (*fd) continue;
    if (errno == ENOENT)
      return base::Error{path + " does not exist: no agent with ABI version " + std::to_string(WEIR_ABI_VERSION) +
                             " has run on this node since it booted or was uninstalled",
                         ENOENT};
    return base::system_error("open the pinned BPF map " + path, errno);
  }
  return maps;
}

base::Result<void> Maps::set_service(const base::SocketAddress& vip, const weir_service& row) {
  weir_address key = to_abi(vip);
  return update(services_.get(), "services", &key, &row);
}

base::Result<void> Maps::remove_service(const base::SocketAddress& vip) {
  weir_address key = to_abi(vip);
  if (auto removed = remove(services_.get(), "services", &key); !removed) return removed;
  return set_brake(vip, false);
}

base::Result<std::vector<std::pair<base::SocketAddress, weir_service>>> Maps::services() const {
  auto rows = all_rows<weir_address, weir_service>(services_.get(), "services");
  if (!rows) return rows.error();
  std::vector<std::pair<base::SocketAddress, weir_service>> result;
  result.reserve(rows->size());
  for (const auto& [key, row] : *rows) result.emplace_back(from_abi(key), row);
  return result;
}

base::Result<std::optional<weir_service>> Maps::service(const base::SocketAddress& vip) const {
  const weir_address key = to_abi(vip);
  weir_service row{};
  if (bpf_map_lookup_elem(services_.get(), &key, &row) == 0) return std::optional(row);
  if (errno == ENOENT) return std::optional<weir_service>();
  return map_error("read a row of", "services");
}

base::Result<void> Maps::set_verdict(uint64_t netns_cookie, const base::SocketAddress& vip,
                                     const weir_verdict& row) const {
  const weir_verdict_key key{netns_cookie, to_abi(vip)};
  return update(verdicts_.get(), "verdicts", &key, &row);
}

base::Result<void> Maps::remove_verdict(uint64_t netns_cookie, const base::SocketAddress& vip) const {
  const weir_verdict_key key{netns_cookie, to_abi(vip)};
  return remove(verdicts_.get(), "verdicts", &key);
}

base::Result<std::optional<weir_verdict>> Maps::verdict(uint64_t netns_cookie, const base::SocketAddress& vip) const {
  const weir_verdict_key key{netns_cookie, to_abi(vip)};
  weir_verdict row{};
  if (bpf_map_lookup_elem(verdicts_.get(), &key, &row) == 0) return std::optional(row);
  if (errno == ENOENT) return std::optional<weir_verdict>();
  return map_error("read a row of", "verdicts");
}

base::Result<std::vector<Maps::Verdict>> Maps::verdicts() const {
  auto rows = all_rows<weir_verdict_key, weir_verdict>(verdicts_.get(), "verdicts");
  if (!rows) return rows.error();
  std::vector<Verdict> result;
  result.reserve(rows->size());
  for (const auto& [key, row] : *rows) result.push_back({key.netns_cookie, from_abi(key.service), row});
  return result;
}

base::Result<void> Maps::set_pod(uint64_t netns_cookie, const weir_pod& row) {
  return update(pods_.get(), "pods", &netns_cookie, &row);
}

base::Result<void> Maps::remove_pod(uint64_t netns_cookie) {
  if (auto removed = withdraw_pod(netns_cookie); !removed) return removed;
  return set_brake(netns_cookie, false);
}

base::Result<void> Maps::withdraw_pod(uint64_t netns_cookie) { return remove(pods_.get(), "pods", &netns_cookie); }

base::Result<std::optional<weir_pod>> Maps::pod(uint64_t netns_cookie) const {
  weir_pod row{};
  if (bpf_map_lookup_elem(pods_.get(), &netns_cookie, &row) == 0) return std::optional(row);
  if (errno == ENOENT) return std::optional<weir_pod>();
  return map_error("read a row of", "pods");
}

base::Result<std::vector<std::pair<uint64_t, weir_pod>>> Maps::pods() const {
  return all_rows<uint64_t, weir_pod>(pods_.get(), "pods");
}

base::Result<void> Maps::set_brake(const weir_brake& key, bool on) {
  const uint32_t value = 1;
  return on ? update(brakes_.get(), "brakes", &key, &value) : remove(brakes_.get(), "brakes", &key);
}

base::Result<bool> Maps::brake(const weir_brake& key) const {
  uint32_t value = 0;
  if (bpf_map_lookup_elem(brakes_.get(), &key, &value) == 0) return true;
  if (errno == ENOENT) return false;
  return map_error("read a row of", "brakes");
}

base::Result<Maps::Brakes> Maps::brakes() const {
  auto rows = all_rows<weir_brake, uint32_t>(brakes_.get(), "brakes");
  if (!rows) return rows.error();
  Brakes result;
  for (const auto& [key, value] : *rows) {
    if (key.netns_cookie != 0)
      result.pods.insert(key.netns_cookie);
    else
      result.services.insert(from_abi(key.service));
  }
  return result;
}

base::Result<weir_heartbeat> Maps::heartbeat(uint16_t slot) const {
  const uint32_t key = slot;
  weir_heartbeat row{};
  if (bpf_map_lookup_elem(heartbeats_.get(), &key, &row) != 0) return map_error("read", "heartbeats");
  return row;
}

base::Result<weir_config> Maps::config() const {
  uint32_t zero = 0;
  weir_config config{};
  if (bpf_map_lookup_elem(config_.get(), &zero, &config) != 0) return map_error("read", "config");
  return config;
}

base::Result<void> Maps::set_config(const weir_config& config) {
  uint32_t zero = 0;
  return update(config_.get(), "config", &zero, &config);
}

base::Result<std::array<uint64_t, WEIR_STAT_MAX>> Maps::stats() const {
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return base::system_error("count the CPUs", -cpus);
  std::vector<uint64_t> per_cpu(static_cast<size_t>(cpus));
  std::array<uint64_t, WEIR_STAT_MAX> sums{};
  for (uint32_t stat = 0; stat < WEIR_STAT_MAX; ++stat) {
    if (bpf_map_lookup_elem(stats_.get(), &stat, per_cpu.data()) != 0) return map_error("read", "stats");
    for (uint64_t count : per_cpu) sums[stat] += count;
  }
  return sums;
}

base::Result<std::vector<Flow>> Maps::flows() const {
  std::string path = directory_ + "/links/weir_flows";
  base::Fd iterator(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!iterator) return base::system_error("open the list of flows " + path, errno);
  std::string bytes;
  char chunk[4096];
  for (;;) {
    ssize_t n = ::read(iterator.get(), chunk, sizeof chunk);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return base::system_error("read the list of flows " + path, errno);
    if (n == 0) break;
    bytes.append(chunk, static_cast<size_t>(n));
  }
  std::vector<Flow> flows(bytes.size() / sizeof(weir_original));
  for (size_t i = 0; i < flows.size(); ++i) {
    weir_original row;
    std::memcpy(&row, bytes.data() + i * sizeof row, sizeof row);
    flows[i] = {row.netns_cookie,
                from_abi(row.source),
                from_abi(row.destination),
                row.diverted_ns,
                row.mode,
                (row.role & WEIR_FLOW_REDIRECTED) != 0};
  }
  return flows;
}

base::Result<uint64_t> Maps::pending() const {
  auto rows = all_rows<weir_connection, weir_original>(pending_.get(), "pending");
  if (!rows) return rows.error();
  return rows->size();
}

base::Result<void> Maps::mark(int socket, weir_mark_kind kind, uint64_t generation) const {
  weir_mark row{};
  row.generation = generation;
  row.kind = kind;
  return update(mark_.get(), "mark", &socket, &row);
}

std::optional<weir_original> Maps::original_destination(int accepted_socket) const {
  weir_original row;
  if (bpf_map_lookup_elem(original_.get(), &accepted_socket, &row) != 0 || row.role != WEIR_ROLE_ACCEPTED)
    return std::nullopt;
  return row;
}

std::optional<weir_connection> Maps::redirected(int accepted_socket) const {
  weir_redirect row;
  weir_account account;
  if (bpf_map_lookup_elem(redirects_.get(), &accepted_socket, &row) != 0 ||
      bpf_map_lookup_elem(accounts_.get(), &row.peer.connection, &account) != 0)
    return std::nullopt;
  return row.peer.connection;
}

bool Maps::keep_on_tcp(int accepted_socket) const {
  weir_redirect row;
  if (bpf_map_lookup_elem(redirects_.get(), &accepted_socket, &row) != 0) return false;
  row.path = WEIR_PATH_TCP;
  bpf_map_update_elem(redirects_.get(), &accepted_socket, &row, BPF_EXIST);
  return true;
}

void Maps::report_read(const weir_connection& connection, uint64_t bytes) const {
  const weir_account account{bytes};
  // Only while the application's socket lives: nobody would remove the row afterwards.
  bpf_map_update_elem(accounts_.get(), &connection, &account, BPF_EXIST);
}

base::Result<uint64_t> Maps::accounts() const {
  auto rows = all_rows<weir_connection, weir_account>(accounts_.get(), "accounts");
  if (!rows) return rows.error();
  return rows->size();
}

}  // namespace weir::interception
