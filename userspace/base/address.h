// IP addresses and endpoints (IP:port) in the one form that weir compares and
// keys by: 16 bytes, IPv4 as v4-mapped IPv6 (::ffff:a.b.c.d), as the BPF maps do.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace weir::base {

struct IpAddress {
  std::array<uint8_t, 16> bytes{};  // network order

  // Accepts what inet_pton accepts, both families; nullopt for anything else.
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(uint32_t address_be);

  bool is_v4() const;  // v4-mapped
  bool is_loopback() const;
  bool is_unspecified() const;
  uint32_t v4_be() const;         // of a v4-mapped address, network order
  std::string to_string() const;  // "10.0.0.1", "fd00::1"
  auto operator<=>(const IpAddress&) const = default;
};

struct SocketAddress {
  IpAddress ip;
  uint16_t port = 0;  // host order

  static SocketAddress from(const sockaddr_storage& address);
  // Fills a sockaddr_in for IPv4, sockaddr_in6 otherwise; returns its length.
  socklen_t to(sockaddr_storage& address) const;
  std::string to_string() const;  // "10.0.0.1:80", "[fd00::1]:80"
  auto operator<=>(const SocketAddress&) const = default;
};

}  // namespace weir::base

template <>
struct std::hash<weir::base::IpAddress> {
  size_t operator()(const weir::base::IpAddress& ip) const noexcept {
    uint64_t half[2];
    std::memcpy(half, ip.bytes.data(), sizeof half);
    uint64_t x = half[0] ^ (half[1] * 0x9E3779B97F4A7C15ull);
    x ^= x >> 32;
    return static_cast<size_t>(x * 0xD6E8FEB86659FD93ull);
  }
};

template <>
struct std::hash<weir::base::SocketAddress> {
  size_t operator()(const weir::base::SocketAddress& a) const noexcept {
    return std::hash<weir::base::IpAddress>()(a.ip) * 31 + a.port;
  }
};
