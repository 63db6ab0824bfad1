// TreeBuilder makes one nlohmann::json and its LineTable from the events of
// either parser, within the limits of document.h. A method that returns false
// has set error(); the parser must stop then.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kubernetes/document.h"

namespace weir::kubernetes {

// What a whole file may still use: shared by its documents.
struct Budget {
  size_t nodes = kMaxNodes;
  size_t text_bytes = kMaxTextBytes;
};

struct BuildError {
  Code code = Code::malformed;
  int line = 0;
  std::string message;
};

class TreeBuilder {
 public:
  explicit TreeBuilder(Budget* budget) : budget_(budget) {}

  // A value: the root, the next item of the open array, or the value of the last key().
  // Also whole copies (YAML aliases), which cost what their parts cost.
  bool scalar(nlohmann::json value, int line);
  bool begin(nlohmann::json::value_t container, int line);  // object or array
  bool key(std::string name, int line);
  // Closes the innermost container and returns it; the pointer lives until the next call.
  nlohmann::json* end();
  // The container that is open innermost.
  nlohmann::json& innermost() { return *open_.back().node; }
  // The value added or closed last; lives until the next call.
  nlohmann::json* last() { return last_; }
  // Takes the cost of `value` off the budget.
  bool charge(const nlohmann::json& value, int line);
  bool fail(Code code, int line, std::string message);

  const std::optional<BuildError>& error() const { return error_; }
  nlohmann::json& root() { return root_; }
  LineTable& lines() { return lines_; }

 private:
  struct Open {
    nlohmann::json* node;  // stable: a container grows only while nothing inside it is open
    uint64_t path;
    std::string key;
  };
  bool add(nlohmann::json value, int line, uint64_t& path);
  nlohmann::json* place(nlohmann::json value);

  Budget* budget_;
  nlohmann::json root_;
  LineTable lines_;
  std::vector<Open> open_;
  nlohmann::json* last_ = nullptr;
  std::optional<BuildError> error_;
};

// Fill the builder from one YAML document or one JSON text. `first_line` is the
// line of the text's first byte in its file. False: builder.error() says why.
bool build_yaml(std::string_view text, int first_line, TreeBuilder& builder);
bool build_json(std::string_view text, TreeBuilder& builder);

}  // namespace weir::kubernetes
