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
  std::string why;
};

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }

std::string Place(int line, int column) { return fmt::format("line {}, column {}", line, column); }
std::string PlaceOf(const YAML::Mark& mark) { return Place(mark.line + 1, mark.column + 1); }

// A character that looks like another one, which YAML does not take for it.
struct LookAlike {
  std::string_view bytes;
  const char* advice;
};
constexpr char kOrdinarySpace[] = "a space that is not an ordinary one; type it anew";
constexpr char kStraightQuotes[] = "a typographic quotation mark; type \" or '";
constexpr LookAlike kLookAlikes[] = {
    {"\u00a0", kOrdinarySpace},  {"\u2002", kOrdinarySpace},
    {"\u2003", kOrdinarySpace},  {"\u2007", kOrdinarySpace},
    {"\u2009", kOrdinarySpace},  {"\u200a", kOrdinarySpace},
    {"\u202f", kOrdinarySpace},  {"\u3000", kOrdinarySpace},
    {"\u200b", kOrdinarySpace},  {"\ufeff", kOrdinarySpace},
    {"\u201c", kStraightQuotes}, {"\u201d", kStraightQuotes},
    {"\u201e", kStraightQuotes}, {"\u2018", kStraightQuotes},
    {"\u2019", kStraightQuotes}, {"\uff1a", "a wide colon; type an ordinary one"},
};

const LookAlike* FindLookAlike(std::string_view word) {
  for (const LookAlike& one : kLookAlikes) {
    if (word.find(one.bytes) != std::string_view::npos) return &one;
  }
  return nullptr;
}

// Line `line` of `text`, from 0, without its end.
std::string_view LineOf(std::string_view text, int line) {
  for (int skipped = 0; skipped < line; ++skipped) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

// Whether `text`, which begins with a quotation mark, has the one that closes it.
bool ClosesItsQuote(std::string_view text) {
  const char quote = text.front();
  for (size_t i = 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      return true;
    }
  }
  return false;
}

// "U+00A0" of a character of two or three bytes in UTF-8.
std::string CodePoint(std::string_view bytes) {
  uint32_t code = static_cast<unsigned char>(bytes[0]) & (bytes.size() == 2 ? 0x1F : 0x0F);
  for (const char c : bytes.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
  return fmt::format("U+{:04X}", code);
}

// Turns parser events into nodes. `open_` holds the path of containers being filled; each is moved
// into its parent when it ends, so pointers into growing vectors are never kept.
class Builder : public YAML::EventHandler {
 public:
  Builder(std::string_view text, std::vector<Violation>& violations)
      : text_(text), violations_(violations) {}

  YamlNode TakeRoot() { return std::move(root_); }

  // 0 before there was a document.
  int document_line() const { return document_line_; }

  void OnDocumentStart(const YAML::Mark& mark) override { document_line_ = LineOf(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    Add(NewNode(YamlNode::Kind::kNothing, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    // What belongs to an entry that is refused is no second mistake.
    if (open_.empty() || !open_.back().ignore) {
      Report(mark, "aliases (*name) are not supported; write the value out");
    }
    Add(NewNode(YamlNode::Kind::kNothing, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    YamlNode node = NewNode(YamlNode::Kind::kScalar, mark);
    node.scalar = value;
    node.quoted = tag == "!";
    CheckTag(mark, tag);
    if (node.quoted) {
      CheckClosed(mark);
    } else {
      CheckLookAlikes(mark, value);
      const bool nothing = value == "~" || value == "null" || value == "Null" || value == "NULL";
      if (nothing) node.kind = YamlNode::Kind::kNothing;
    }
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(YamlNode::Kind::kList, mark);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
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

  void Report(const YAML::Mark& mark, const std::string& what) {
    violations_.push_back({"", fmt::format("{}: {}", PlaceOf(mark), what)});
  }

  // "?" and "!" are the parser's own, for plain and quoted words.
  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    Report(mark, fmt::format("tags ({}) are not supported; write the value alone", Quoted(tag)));
  }

  // The parser takes the rest of the file for the text of a quote that is never closed.
  void CheckClosed(const YAML::Mark& mark) {
    const std::string_view line = LineOf(text_, mark.line);
    const auto column = static_cast<size_t>(mark.column);
    if (column >= line.size() || (line[column] != '"' && line[column] != '\'')) return;
    if (ClosesItsQuote(line.substr(column))) return;
    throw Refused{
        fmt::format("{}: a quotation mark that is not closed on its line", PlaceOf(mark))};
  }

  void CheckLookAlikes(const YAML::Mark& mark, const std::string& word) {
    const LookAlike* found = FindLookAlike(word);
    if (found == nullptr) return;
    Report(mark,
           fmt::format("{} has {} ({})", Quoted(word), found->advice, CodePoint(found->bytes)));
  }

  YamlNode NewNode(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > kMaxNodes) {
      throw Refused{fmt::format("line {}: more than {} values in one file are beyond the limit",
                                LineOf(mark), kMaxNodes)};
    }
    YamlNode node;
    node.kind = kind;
    node.line = LineOf(mark);
    return node;
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (open_.size() >= kMaxDepth) {
      throw Refused{fmt::format("line {}: more than {} levels in one file are beyond the limit",
                                LineOf(mark), kMaxDepth)};
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
    if (node.scalar == "<<" && !node.quoted) {
      parent.ignore = true;
      violations_.push_back(
          {"", fmt::format("line {}: merge keys (<<) are not supported; write the "
                           "fields out",
                           node.line)});
      return;
    }
    parent.key = node.scalar;
    if (!parent.keys.insert(parent.key).second) {
      parent.ignore = true;
      violations_.push_back({"", fmt::format("line {}: {} is given twice in the same map; keep one",
                                             node.line, Quoted(parent.key))});
    }
  }

  std::string_view text_;
  std::vector<Violation>& violations_;
  std::vector<OpenNode> open_;
  YamlNode root_;
  int nodes_ = 0;
  int document_line_ = 0;
};

// What is wrong with the bytes of `text`, with the place; "" when they are UTF-8 text.
std::string BytesTrouble(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
    return "expected UTF-8 text, found UTF-16; save the file as UTF-8";
  }
  int line = 1;
  int column = 1;
  while (!text.empty()) {
    const size_t length = base::Utf8Length(text);
    if (length == 0 || text.front() == '\0') {
      return fmt::format("{}: expected UTF-8 text, found the byte 0x{:02x}; save the file as UTF-8",
                         Place(line, column), static_cast<unsigned char>(text.front()));
    }
    column = text.front() == '\n' ? 1 : column + 1;
    if (text.front() == '\n') ++line;
    text.remove_prefix(length);
  }
  return "";
}

// What an editor does not show and the parser does not say: a tab in front of the first word of
// `line`, or a character that looks like another one. "" when there is neither.
std::string HiddenTrouble(std::string_view text, int line) {
  const std::string_view content = LineOf(text, line);
  const size_t tab = content.find('\t');
  if (tab < content.find_first_not_of(" \t")) {
    return fmt::format("{}: found a tab; indent with spaces",
                       Place(line + 1, static_cast<int>(tab) + 1));
  }
  const LookAlike* found = FindLookAlike(content);
  if (found == nullptr) return "";
  return fmt::format("{}: found {} ({})",
                     Place(line + 1, static_cast<int>(content.find(found->bytes)) + 1),
                     found->advice, CodePoint(found->bytes));
}

// A line that is indented in a strange way is noticed at the next one.
std::string ParserTrouble(std::string_view text, const YAML::Exception& error) {
  for (const int line : {error.mark.line, error.mark.line - 1}) {
    std::string trouble = line < 0 ? "" : HiddenTrouble(text, line);
    if (!trouble.empty()) return trouble;
  }
  return fmt::format("{}: this is not YAML: {}", PlaceOf(error.mark), error.msg);
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
  if (std::string trouble = BytesTrouble(text); !trouble.empty()) {
    return Refuse(violations, std::move(trouble));
  }
  std::vector<Violation> found;
  Builder builder(text, found);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Builder rest(text, found);
    if (parser.HandleNextDocument(rest)) {
      return Refuse(violations,
                    fmt::format("line {}: expected one YAML document, found a second one "
                                "after \"---\"",
                                rest.document_line()));
    }
  } catch (const Refused& refused) {
    return Refuse(violations, refused.why);
  } catch (const YAML::Exception& error) {
    return Refuse(violations, ParserTrouble(text, error));
  }
  violations.insert(violations.end(), found.begin(), found.end());
  return found.empty() ? builder.TakeRoot() : YamlNode();
}

}  // namespace espalier::config
