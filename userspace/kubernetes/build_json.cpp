#include <iterator>

#include "kubernetes/tree_builder.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

// Line of the last character that the lexer took.
struct LineCounter {
  int line = 1;
  bool after_newline = false;
  void take(char c) {
    if (after_newline) ++line;
    after_newline = c == '\n';
  }
};

// The lexer reads through this so that every event has its line.
struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* position;
  LineCounter* counter;

  const char& operator*() const { return *position; }
  CountingIterator& operator++() {
    counter->take(*position);
    ++position;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return position == other.position; }
  bool operator!=(const CountingIterator& other) const { return position != other.position; }
};

class JsonEvents : public nlohmann::json_sax<json> {
 public:
  JsonEvents(TreeBuilder& builder, const LineCounter& counter) : builder_(builder), counter_(counter) {}

  bool null() override { return builder_.scalar(nullptr, counter_.line); }
  bool boolean(bool value) override { return builder_.scalar(value, counter_.line); }
  bool number_integer(number_integer_t value) override { return builder_.scalar(value, counter_.line); }
  bool number_unsigned(number_unsigned_t value) override { return builder_.scalar(value, counter_.line); }
  bool number_float(number_float_t value, const string_t&) override { return builder_.scalar(value, counter_.line); }
  bool string(string_t& value) override { return builder_.scalar(std::move(value), counter_.line); }
  bool binary(binary_t&) override { return builder_.fail(Code::malformed, counter_.line, "binary value"); }
  bool start_object(size_t) override { return builder_.begin(json::value_t::object, counter_.line); }
  bool key(string_t& name) override { return builder_.key(std::move(name), counter_.line); }
  bool end_object() override { return builder_.end() != nullptr; }
  bool start_array(size_t) override { return builder_.begin(json::value_t::array, counter_.line); }
  bool end_array() override { return builder_.end() != nullptr; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 3, column 5: what"
    std::string_view message = error.what();
    if (size_t bracket = message.find("] "); bracket != std::string_view::npos) message.remove_prefix(bracket + 2);
    if (size_t colon = message.find(": "); colon != std::string_view::npos) message.remove_prefix(colon + 2);
    return builder_.fail(Code::malformed, counter_.line, shown(message));
  }

 private:
  TreeBuilder& builder_;
  const LineCounter& counter_;
};

}  // namespace

bool build_json(std::string_view text, TreeBuilder& builder) {
  LineCounter counter;
  JsonEvents events(builder, counter);
  CountingIterator begin{text.data(), &counter};
  CountingIterator end{text.data() + text.size(), &counter};
  return json::sax_parse(begin, end, &events);
}

}  // namespace weir::kubernetes
