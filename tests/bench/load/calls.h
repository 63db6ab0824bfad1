// The calls that the load generator makes and the backend answers: the path says what is wanted.
//   /bench.Load/Reply<count>x<size>   that many messages of that many bytes, once the request has ended
//   /bench.Load/Echo                  every byte comes back, until the request ends
//   /bench.Load/Hold                  no answer
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace bench {

// Ahead of the connection preface: no proxy takes the connection for HTTP/2, the backend skips it.
constexpr std::string_view kNotHttp2 = "RAW\n";

enum class Kind : uint8_t { reply, echo, hold };

struct Wanted {
  Kind kind = Kind::reply;
  uint32_t count = 1;
  uint32_t size = 0;
};

// False: no such call.
inline bool parse_path(std::string_view path, Wanted& wanted) {
  const std::string text(path);
  if (text == "/bench.Load/Echo") return wanted.kind = Kind::echo, true;
  if (text == "/bench.Load/Hold") return wanted.kind = Kind::hold, true;
  wanted.kind = Kind::reply;
  return std::sscanf(text.c_str(), "/bench.Load/Reply%ux%u", &wanted.count, &wanted.size) == 2;
}

// A gRPC message: flag, length (big endian), and that many zeros.
inline std::string message(uint32_t size) {
  std::string text(5 + size, '\0');
  for (size_t i = 0; i < 4; i++) text[1 + i] = static_cast<char>(size >> (24 - 8 * i));
  return text;
}

}  // namespace bench
