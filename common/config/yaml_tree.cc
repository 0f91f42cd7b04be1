#include "common/config/yaml_tree.h"

#include <algorithm>
#include <istream>
#include <set>
#include <streambuf>
#include <utility>

#include "common/base/printable.h"
#include "common/config/text.h"
#include "fmt/format.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

namespace espalier::config {
namespace {

constexpr size_t kMaxDepth = 32;
constexpr int kMaxNodes = 100'000;

// Reads a string_view without a copy.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());
    setg(begin, begin, begin + text.size());
  }
};

// Thrown by the builder to leave the parser, which calls it from deep inside; never leaves this
// file.
struct Refused {
  int line;
  std::string why;
};

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }

// Turns parser events into nodes. `open_` holds the path of containers being filled; each is moved
// into its parent when it ends, so pointers into growing vectors are never kept.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::vector<Violation>& violations) : violations_(violations) {}

  YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    Add(NewNode(YamlNode::Kind::kNothing, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    violations_.push_back({"", fmt::format("line {}: aliases (*name) are not supported; write the "
                                           "value out",
                                           LineOf(mark))});
    Add(NewNode(YamlNode::Kind::kNothing, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    YamlNode node = NewNode(YamlNode::Kind::kScalar, mark);
    node.scalar = value;
    node.quoted = tag == "!";
    if (!node.quoted && (value == "~" || value == "null")) node.kind = YamlNode::Kind::kNothing;
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kList, mark);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMap, mark);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct OpenNode {
    YamlNode node;
    std::set<std::string> keys;
    std::string key;
    bool has_key = false;  // a key waits for its value
    bool ignore = false;   // ... but the entry is refused
  };

  YamlNode NewNode(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > kMaxNodes) {
      throw Refused{LineOf(mark), fmt::format("more than {} values", kMaxNodes)};
    }
    YamlNode node;
    node.kind = kind;
    node.line = LineOf(mark);
    return node;
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (open_.size() >= kMaxDepth) {
      throw Refused{LineOf(mark), fmt::format("more than {} levels", kMaxDepth)};
    }
    OpenNode open;
    open.node = NewNode(kind, mark);
    open_.push_back(std::move(open));
  }

  void Close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    Add(std::move(node));
  }

  void Add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      SetKey(parent, node);
    } else {
      if (!parent.ignore) parent.node.entries.push_back({parent.key, std::move(node)});
      parent.has_key = false;
    }
  }

  void SetKey(OpenNode& parent, const YamlNode& node) {
    parent.has_key = true;
    parent.ignore = node.kind != YamlNode::Kind::kScalar;
    if (parent.ignore) {
      violations_.push_back({"", fmt::format("line {}: expected a field name", node.line)});
      return;
    }
    parent.key = node.scalar;
    if (!parent.keys.insert(parent.key).second) {
      parent.ignore = true;
      violations_.push_back({"", fmt::format("line {}: {} is given twice in the same map; keep one",
                                             node.line, Quoted(parent.key))});
    }
  }

  std::vector<Violation>& violations_;
  std::vector<OpenNode> open_;
  YamlNode root_;
  int nodes_ = 0;
};

// 1-based line of the first byte that is not UTF-8 text, or 0.
int FirstBinaryLine(std::string_view text) {
  int line = 1;
  while (!text.empty()) {
    const size_t length = base::Utf8Length(text);
    if (length == 0 || text.front() == '\0') return line;
    if (text.front() == '\n') ++line;
    text.remove_prefix(length);
  }
  return 0;
}

YamlNode Refuse(std::vector<Violation>& violations, std::string description) {
  violations.push_back({"", std::move(description)});
  return YamlNode();
}

}  // namespace

YamlNode ParseYaml(std::string_view text, std::vector<Violation>& violations) {
  if (text.size() > kMaxYamlBytes) {
    return Refuse(violations, fmt::format("expected at most {} bytes of YAML, found {}",
                                          kMaxYamlBytes, text.size()));
  }
  if (const int line = FirstBinaryLine(text); line != 0) {
    return Refuse(violations, fmt::format("line {}: expected UTF-8 text, found other bytes", line));
  }
  Builder builder(violations);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Builder rest(violations);
    if (parser.HandleNextDocument(rest)) {
      return Refuse(violations, "expected one YAML document, found a second one after \"---\"");
    }
  } catch (const Refused& refused) {
    return Refuse(violations, fmt::format("line {}: {} in one file is beyond the limit",
                                          refused.line, refused.why));
  } catch (const YAML::Exception& error) {
    return Refuse(violations, fmt::format("line {}, column {}: this is not YAML: {}",
                                          error.mark.line + 1, error.mark.column + 1, error.msg));
  }
  return builder.TakeRoot();
}

}  // namespace espalier::config
