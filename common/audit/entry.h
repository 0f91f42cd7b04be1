// One entry of the audit log, and the line that it is in a file.
//
//   {"seq":7,"time":"2026-12-01T09:30:00.123456Z","caller":"ada","role":"submitter",
//    "source":"certificate:4f2a","from":"10.0.0.5:41234","call":"CreateJob","object":"jobs/a",
//    "outcome":"ok","prev":"<64 digits>","hash":"<64 digits>"}
//
// in one line, without spaces between. `prev` is the hash of the entry before; `hash` is the SHA-256 of
// the line up to it, that is of the same object without `,"hash":"…"`. So an entry vouches for all
// before it. There is one line for an entry and no other: ReadLine() takes nothing that LineOf() would not write.
//
// Texts come from outside: Bounded() cuts them, they are as base::Printable() writes them, and then
// quoted as JSON.
//
// Threading, determinism: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace espalier::audit {

// Who, what, when, from where, outcome.
struct Entry {
  absl::Time time;
  std::string caller;   // name; "" when nobody knows
  std::string role;     // "admin", …; of the log's own entries kLogRole
  std::string source;   // "certificate:SERIAL", "token:NAME" or "open"
  std::string from;     // address of the peer
  std::string call;     // "CreateJob"
  std::string object;   // "jobs/a", or ""
  std::string outcome;  // "ok", or the reason of the error
};

// An entry and its place in the chain.
struct Record {
  uint64_t seq = 0;  // from 1, without gaps
  Entry entry;
  std::string note;  // of the log's own entries; "" in others, whose lines have none
  std::string prev;
  std::string hash;
};

// The newest entry of a chain: whoever noted it can tell later that nothing before it was changed.
struct Head {
  uint64_t seq = 0;  // 0: there is none
  std::string hash;
};

// What every reader of JSON takes for the number that it is.
inline constexpr uint64_t kMaxSeq = (uint64_t{1} << 53) - 1;
inline constexpr size_t kMaxFieldBytes = 512;
// Of any line that LineOf() writes of a bounded entry, its newline included.
inline constexpr size_t kMaxLineBytes = 32 * 1024;

// The last member of a line. Texts cannot have it in them, since their quotes are escaped.
inline constexpr std::string_view kHashBegins = ",\"hash\":\"";
// ,"hash":"<64 digits>"}
inline constexpr size_t kHashBytes = kHashBegins.size() + 64 + 2;

// What the log says of itself: that it begins to write, and that it lost entries.
inline constexpr std::string_view kLogRole = "log";
inline constexpr std::string_view kBegin = "audit.Begin";
inline constexpr std::string_view kLost = "audit.Lost";
// Outcomes of kBegin besides "ok".
inline constexpr std::string_view kTorn = "TORN";
inline constexpr std::string_view kBroken = "CHAIN_BROKEN";

// The entry with texts that can be printed, of at most kMaxFieldBytes before what had to be escaped.
Entry Bounded(Entry entry);

// `prev` of the first entry of a chain.
std::string FirstPrev();

// The line of `record` with its newline; `record.hash` is set to what it says.
std::string LineOf(Record& record);

// `line` is without its newline. Errors: InvalidArgument AUDIT_LINE_INVALID, whose message says what is
// wrong as the end of "expected an entry, found …". That `hash` fits is looked at by HashOf().
absl::StatusOr<Record> ReadLine(std::string_view line);

// What the hash of a line that ReadLine() took has to be.
std::string HashOf(std::string_view line);

// "0000000007.jsonl": files are named by their first entry.
std::string FileName(uint64_t first_seq);
std::optional<uint64_t> ParseFileName(std::string_view name);

// The note of kBegin where there was a file before: so many of its bytes are entries of the chain, and
// what follows in it (a line that was not finished) does not count.
struct Former {
  std::string file;  // its name
  uint64_t kept = 0;
  uint64_t torn = 0;  // how many bytes followed then
};
std::string NoteOf(const Former& former);
std::optional<Former> ParseNote(std::string_view note);

// "SEQ:HASH", as the log prints heads. Errors: InvalidArgument AUDIT_HEAD_INVALID.
std::string ToText(const Head& head);
absl::StatusOr<Head> ParseHead(std::string_view text);

}  // namespace espalier::audit
