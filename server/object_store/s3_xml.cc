#include "server/object_store/s3_xml.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace espalier::server::object_store {
namespace {

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxNameBytes = 64;
constexpr std::string_view kSpaces = " \t\r\n";

void AppendUtf8(uint32_t code, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3f)));
  };
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xc0 | (code >> 6)));
    tail(0);
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xe0 | (code >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xf0 | (code >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

// Appends what "&name;" stands for.
bool AppendEntity(std::string_view name, std::string& out) {
  static constexpr std::pair<std::string_view, char> kNamed[] = {
      {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  for (const auto& [known, character] : kNamed) {
    if (name != known) continue;
    out.push_back(character);
    return true;
  }
  if (!name.starts_with('#')) return false;
  name.remove_prefix(1);
  const bool hex = name.starts_with('x') || name.starts_with('X');
  if (hex) name.remove_prefix(1);
  uint32_t code = 0;
  const char* end = name.data() + name.size();
  const auto number = std::from_chars(name.data(), end, code, hex ? 16 : 10);
  if (number.ec != std::errc() || number.ptr != end || code == 0 || code > 0x10ffff ||
      (code >= 0xd800 && code < 0xe000)) {
    return false;
  }
  AppendUtf8(code, out);
  return true;
}

class Reader {
 public:
  using Visit = std::function<void(std::string_view path, const std::string& text)>;
  Reader(std::string_view document, const Visit& visit) : rest_(document), visit_(visit) {}

  bool Read() {
    if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
    while (!rest_.empty()) {
      if (!(rest_.front() == '<' ? ReadMarkup() : ReadText())) return false;
    }
    return seen_root_ && texts_.empty();
  }

 private:
  // What stands before `end`, which is passed over with it.
  std::optional<std::string_view> Until(std::string_view end) {
    const size_t at = rest_.find(end);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view before = rest_.substr(0, at);
    rest_.remove_prefix(at + end.size());
    return before;
  }

  bool Skip(std::string_view start, std::string_view end) {
    rest_.remove_prefix(start.size());
    return Until(end).has_value();
  }

  bool ReadMarkup() {
    if (rest_.starts_with("<?")) return Skip("<?", "?>");
    if (rest_.starts_with("<!--")) return Skip("<!--", "-->");
    constexpr std::string_view kCdata = "<![CDATA[";
    if (rest_.starts_with(kCdata)) {
      rest_.remove_prefix(kCdata.size());
      const auto text = Until("]]>");
      if (!text.has_value() || texts_.empty()) return false;
      texts_.back().append(*text);
      return true;
    }
    if (rest_.starts_with("<!")) return false;
    if (rest_.starts_with("</")) {
      rest_.remove_prefix(2);
      const auto tag = Until(">");
      return tag.has_value() && End(*tag);
    }
    rest_.remove_prefix(1);
    return ReadStart();
  }

  bool ReadStart() {
    const size_t end = EndOfTag();
    if (end == std::string_view::npos) return false;
    std::string_view tag = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    const bool empty = tag.ends_with('/');
    if (empty) tag.remove_suffix(1);
    const std::string_view name = tag.substr(0, tag.find_first_of(kSpaces));
    if (!Begin(name)) return false;
    return !empty || End(name);
  }

  // Where the ">" is; those in values of attributes do not count.
  size_t EndOfTag() const {
    char quote = '\0';
    for (size_t i = 0; i < rest_.size(); ++i) {
      const char c = rest_[i];
      if (quote != '\0') {
        if (c == quote) quote = '\0';
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else if (c == '>') {
        return i;
      } else if (c == '<') {
        return std::string_view::npos;
      }
    }
    return std::string_view::npos;
  }

  bool Begin(std::string_view name) {
    if (name.empty() || name.size() > kMaxNameBytes || name.find('/') != std::string_view::npos ||
        texts_.size() == kMaxDepth || (texts_.empty() && seen_root_)) {
      return false;
    }
    seen_root_ = true;
    starts_.push_back(path_.size());
    if (!path_.empty()) path_ += "/";
    path_ += LocalName(name);
    texts_.emplace_back();
    return true;
  }

  bool End(std::string_view tag) {
    const std::string_view name = LocalName(tag.substr(0, tag.find_first_of(kSpaces)));
    if (texts_.empty()) return false;
    const std::string_view open = std::string_view(path_).substr(starts_.back());
    if (open.substr(open.starts_with('/') ? 1 : 0) != name) return false;
    visit_(path_, texts_.back());
    path_.resize(starts_.back());
    starts_.pop_back();
    texts_.pop_back();
    return true;
  }

  static std::string_view LocalName(std::string_view name) {
    const size_t colon = name.rfind(':');
    return colon == std::string_view::npos ? name : name.substr(colon + 1);
  }

  bool ReadText() {
    const std::string_view text = rest_.substr(0, rest_.find('<'));
    rest_.remove_prefix(text.size());
    // Stores send blanks before an answer that takes them long.
    if (texts_.empty()) return text.find_first_not_of(kSpaces) == std::string_view::npos;
    return Decode(text, texts_.back());
  }

  static bool Decode(std::string_view text, std::string& out) {
    constexpr size_t kMaxEntityBytes = 12;
    while (!text.empty()) {
      const size_t ampersand = text.find('&');
      out.append(text.substr(0, ampersand));
      if (ampersand == std::string_view::npos) return true;
      text.remove_prefix(ampersand + 1);
      const size_t end = text.substr(0, kMaxEntityBytes).find(';');
      if (end == std::string_view::npos || !AppendEntity(text.substr(0, end), out)) return false;
      text.remove_prefix(end + 1);
    }
    return true;
  }

  std::string_view rest_;
  const Visit& visit_;
  std::string path_;
  std::vector<size_t> starts_;      // of the open elements in the path
  std::vector<std::string> texts_;  // of the open elements
  bool seen_root_ = false;
};

}  // namespace

bool ReadXml(std::string_view document,
             const std::function<void(std::string_view path, const std::string& text)>& visit) {
  return Reader(document, visit).Read();
}

std::string EscapeXml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped.push_back(c);
    }
  }
  return escaped;
}

}  // namespace espalier::server::object_store
