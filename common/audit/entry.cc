#include "common/audit/entry.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::audit {
namespace {

constexpr char kTimeFormat[] = "%Y-%m-%dT%H:%M:%E6SZ";
constexpr std::string_view kFileSuffix = ".jsonl";
constexpr size_t kDigestDigits = 64;

std::string TimeText(absl::Time time) {
  return absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone());
}

// After Printable() quotes and backslashes are all that JSON wants escaped.
void AppendQuoted(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

void AppendMember(std::string_view key, std::string_view value, std::string& out) {
  out += fmt::format(",\"{}\":", key);
  AppendQuoted(base::Printable(value), out);
}

// The texts of an entry in their order.
struct TextMember {
  std::string_view key;
  std::string Entry::*value;
};
constexpr std::array<TextMember, 7> kTexts = {{{"caller", &Entry::caller},
                                               {"role", &Entry::role},
                                               {"source", &Entry::source},
                                               {"from", &Entry::from},
                                               {"call", &Entry::call},
                                               {"object", &Entry::object},
                                               {"outcome", &Entry::outcome}}};

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("AUDIT_LINE_INVALID", what);
}

// Takes the members of a line from its front.
class Members {
 public:
  explicit Members(std::string_view line) : rest_(line) {}

  bool Skip(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  bool Number(uint64_t& value) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return true;
  }

  // The text of `,"key":"text"`.
  bool Text(std::string_view key, std::string& value) {
    if (!Skip(fmt::format(",\"{}\":\"", key))) return false;
    while (!rest_.empty() && rest_.front() != '"') {
      if (rest_.front() == '\\') rest_.remove_prefix(1);
      if (rest_.empty()) return false;
      value += rest_.front();
      rest_.remove_prefix(1);
    }
    return Skip("\"");
  }

  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace

Entry Bounded(Entry entry) {
  for (const TextMember& text : kTexts) {
    std::string& value = entry.*text.value;
    value = base::PrintablePrefix(value, kMaxFieldBytes);
  }
  return entry;
}

std::string FirstPrev() { return std::string(kDigestDigits, '0'); }

std::string LineOf(Record& record) {
  std::string line = fmt::format("{{\"seq\":{}", record.seq);
  AppendMember("time", TimeText(record.entry.time), line);
  for (const TextMember& text : kTexts) AppendMember(text.key, record.entry.*text.value, line);
  if (!record.note.empty()) AppendMember("note", record.note, line);
  AppendMember("prev", record.prev, line);
  record.hash = io::Sha256Hex(line + "}");
  AppendMember("hash", record.hash, line);
  return line + "}\n";
}

absl::StatusOr<Record> ReadLine(std::string_view line) {
  Record record;
  Members members(line);
  std::string time;
  if (!members.Skip("{\"seq\":") || !members.Number(record.seq) || record.seq > kMaxSeq) {
    return Invalid("a line that does not begin with {\"seq\":N");
  }
  if (!members.Text("time", time)) return Invalid("no time after the number");
  for (const TextMember& text : kTexts) {
    if (!members.Text(text.key, record.entry.*text.value)) {
      return Invalid(fmt::format("no {} where it belongs", text.key));
    }
  }
  members.Text("note", record.note);
  if (!members.Text("prev", record.prev) || !io::IsSha256Hex(record.prev)) {
    return Invalid("no hash of the entry before (prev)");
  }
  if (!members.Text("hash", record.hash) || !io::IsSha256Hex(record.hash)) {
    return Invalid("no hash");
  }
  if (!members.Skip("}") || !members.at_end()) return Invalid("bytes after its hash");
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, time, &record.entry.time, &error)) {
    return Invalid("a time that is none");
  }
  Record again = record;
  std::string written = LineOf(again);
  // The hash itself is compared by others, who can say more.
  written.pop_back();
  if (written.size() != line.size() ||
      written.substr(0, written.size() - kHashBytes) != line.substr(0, line.size() - kHashBytes)) {
    return Invalid("a line that is written in another way than the log writes");
  }
  return record;
}

std::string HashOf(std::string_view line) {
  io::Sha256 digest;
  digest.Update(line.substr(0, line.size() - kHashBytes));
  digest.Update("}");
  return digest.HexDigest();
}

std::string FileName(uint64_t first_seq) { return fmt::format("{:010}{}", first_seq, kFileSuffix); }

std::optional<uint64_t> ParseFileName(std::string_view name) {
  uint64_t seq = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), seq);
  if (error != std::errc() || seq == 0 || seq > kMaxSeq || FileName(seq) != name) {
    return std::nullopt;
  }
  return seq;
}

std::string NoteOf(const Former& former) {
  return fmt::format("file={} kept={} torn={}", former.file, former.kept, former.torn);
}

std::optional<Former> ParseNote(std::string_view note) {
  Former former;
  Members members(note);
  const size_t space = note.find(' ');
  if (space == std::string_view::npos || !members.Skip("file=")) return std::nullopt;
  former.file = std::string(note.substr(5, space - 5));
  if (!ParseFileName(former.file) || !members.Skip(former.file) || !members.Skip(" kept=") ||
      !members.Number(former.kept) || !members.Skip(" torn=") || !members.Number(former.torn) ||
      !members.at_end()) {
    return std::nullopt;
  }
  return former;
}

std::string ToText(const Head& head) { return fmt::format("{}:{}", head.seq, head.hash); }

absl::StatusOr<Head> ParseHead(std::string_view text) {
  Head head;
  Members members(text);
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) head.hash = std::string(text.substr(colon + 1));
  if (!members.Number(head.seq) || head.seq == 0 || !io::IsSha256Hex(head.hash) ||
      ToText(head) != text) {
    return base::InvalidArgument(
        "AUDIT_HEAD_INVALID",
        fmt::format("expected a head as SEQ:HASH, with the 64 hexadecimal digits that the "
                    "coordinator wrote to its log as audit_head, found '{}'",
                    base::PrintablePrefix(text, 100)));
  }
  return head;
}

}  // namespace espalier::audit
