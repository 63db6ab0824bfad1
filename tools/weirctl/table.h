// Table: aligned columns as kubectl prints them. Cells come from manifests and
// from the network: control characters are shown as '?'.
#pragma once

#include <concepts>
#include <string>
#include <vector>

namespace weir::weirctl {

enum class Tone { plain, good, warn, bad };

struct Cell {
  Cell(std::string t, Tone tone_of = Tone::plain) : text(std::move(t)), tone(tone_of) {}  // NOLINT
  Cell(const char* t, Tone tone_of = Tone::plain) : text(t), tone(tone_of) {}             // NOLINT
  Cell(std::integral auto number) : text(std::to_string(number)) {}                       // NOLINT
  std::string text;
  Tone tone = Tone::plain;
};

struct Column {
  std::string name;
  bool wide = false;  // only with -o wide
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as columns; an empty one is shown as "-".
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  std::string render(bool wide, bool color) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

std::string toned(const std::string& text, Tone tone, bool color);
std::string printable(const std::string& text);
// "350ms", "3s", "4m10s", "2h3m", "5d2h"
std::string human_duration(double seconds);

}  // namespace weir::weirctl
