#include "kubernetes/tree_builder.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

// Walks at most kMaxDepth levels deep, whatever the value.
bool within_budget(const json& value, size_t depth, Budget& budget) {
  if (depth > kMaxDepth || budget.nodes == 0) return false;
  --budget.nodes;
  auto take_text = [&](size_t bytes) {
    if (bytes > budget.text_bytes) return false;
    budget.text_bytes -= bytes;
    return true;
  };
  if (value.is_string()) return take_text(value.get_ref<const std::string&>().size());
  if (value.is_object()) {
    for (const auto& [name, member] : value.get_ref<const json::object_t&>()) {
      if (!take_text(name.size()) || !within_budget(member, depth + 1, budget)) return false;
    }
  } else if (value.is_array()) {
    for (const json& item : value) {
      if (!within_budget(item, depth + 1, budget)) return false;
    }
  }
  return true;
}

}  // namespace

json* TreeBuilder::place(json value) {
  if (open_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  Open& parent = open_.back();
  if (parent.node->is_array()) {
    auto& items = parent.node->get_ref<json::array_t&>();
    items.push_back(std::move(value));
    return &items.back();
  }
  return &parent.node->get_ref<json::object_t&>()
              .insert_or_assign(std::move(parent.key), std::move(value))
              .first->second;
}

bool TreeBuilder::add(json value, int line, uint64_t& path) {
  if (!charge(value, line)) return false;
  path = LineTable::kRoot;
  if (!open_.empty()) {
    const Open& parent = open_.back();
    path = parent.node->is_array() ? LineTable::child(parent.path, parent.node->size())
                                   : LineTable::child(parent.path, parent.key);
  }
  lines_.add(path, line);
  last_ = place(std::move(value));
  return true;
}

bool TreeBuilder::scalar(json value, int line) {
  uint64_t path;
  return add(std::move(value), line, path);
}

bool TreeBuilder::begin(json::value_t container, int line) {
  uint64_t path;
  if (!add(json(container), line, path)) return false;
  open_.push_back({last_, path, {}});
  return true;
}

bool TreeBuilder::key(std::string name, int line) {
  Open& object = open_.back();
  if (object.node->contains(name)) {
    return fail(Code::duplicate_key, line, "the key " + shown(name) + " appears twice in one mapping");
  }
  if (name.size() > budget_->text_bytes) return fail(Code::limit_exceeded, line, "too much text in one file");
  budget_->text_bytes -= name.size();
  object.key = std::move(name);
  return true;
}

json* TreeBuilder::end() {
  last_ = open_.back().node;
  open_.pop_back();
  return last_;
}

bool TreeBuilder::charge(const json& value, int line) {
  if (within_budget(value, open_.size(), *budget_)) return true;
  return fail(Code::limit_exceeded, line,
              "nested deeper than " + std::to_string(kMaxDepth) + " levels, or more than " + std::to_string(kMaxNodes) +
                  " nodes in one file (aliases expanded)");
}

bool TreeBuilder::fail(Code code, int line, std::string message) {
  if (!error_) error_ = BuildError{code, line, std::move(message)};
  return false;
}

}  // namespace weir::kubernetes
