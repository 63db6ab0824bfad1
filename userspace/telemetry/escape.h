// Escapes for the access log. Header values come from clients: whatever they
// hold, a text line stays one line of printable bytes and a JSON line valid JSON.
#pragma once

#include <string>
#include <string_view>

namespace weir::telemetry {

// Control bytes, '"', '\' and bytes that are not UTF-8 as \xHH; blanks stay.
void append_escaped(std::string& out, std::string_view value);
// With its quotes. Bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view value);

}  // namespace weir::telemetry
