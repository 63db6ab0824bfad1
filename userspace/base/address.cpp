#include "base/address.h"

#include <arpa/inet.h>

namespace weir::base {
namespace {
constexpr std::array<uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  char copy[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof copy) return std::nullopt;
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  in_addr v4_address{};
  if (inet_pton(AF_INET, copy, &v4_address) == 1) return v4(v4_address.s_addr);
  IpAddress ip;
  if (inet_pton(AF_INET6, copy, ip.bytes.data()) == 1) return ip;
  return std::nullopt;
}

IpAddress IpAddress::v4(uint32_t address_be) {
  IpAddress ip;
  std::memcpy(ip.bytes.data(), kMappedPrefix.data(), kMappedPrefix.size());
  std::memcpy(ip.bytes.data() + 12, &address_be, 4);
  return ip;
}

bool IpAddress::is_v4() const { return std::memcmp(bytes.data(), kMappedPrefix.data(), kMappedPrefix.size()) == 0; }

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes[12] == 127;
  return std::memcmp(bytes.data(), &in6addr_loopback, 16) == 0;
}

bool IpAddress::is_unspecified() const {
  if (is_v4()) return v4_be() == 0;
  return *this == IpAddress{};
}

uint32_t IpAddress::v4_be() const {
  uint32_t value;
  std::memcpy(&value, bytes.data() + 12, 4);
  return value;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN];
  if (is_v4()) return inet_ntop(AF_INET, bytes.data() + 12, text, sizeof text);
  return inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
}

SocketAddress SocketAddress::from(const sockaddr_storage& address) {
  SocketAddress result;
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    result.ip = IpAddress::v4(in.sin_addr.s_addr);
    result.port = ntohs(in.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
    std::memcpy(result.ip.bytes.data(), &in6.sin6_addr, 16);
    result.port = ntohs(in6.sin6_port);
  }
  return result;
}

socklen_t SocketAddress::to(sockaddr_storage& address) const {
  std::memset(&address, 0, sizeof address);
  if (ip.is_v4()) {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = ip.v4_be();
    in.sin_port = htons(port);
    return sizeof in;
  }
  auto& in6 = reinterpret_cast<sockaddr_in6&>(address);
  in6.sin6_family = AF_INET6;
  std::memcpy(&in6.sin6_addr, ip.bytes.data(), 16);
  in6.sin6_port = htons(port);
  return sizeof in6;
}

std::string SocketAddress::to_string() const {
  if (ip.is_v4()) return ip.to_string() + ":" + std::to_string(port);
  return "[" + ip.to_string() + "]:" + std::to_string(port);
}

}  // namespace weir::base
