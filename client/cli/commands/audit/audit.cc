#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/audit/verify.h"
#include "common/base/clock.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kVerify[] = R"(Say whether an audit log is as it was written

Examples:
  espalier audit verify espalier-data/audit
  espalier audit verify espalier-data/audit --head 4711:9f86d0…
  espalier audit verify 0000000001.jsonl 0000003120.jsonl

PATH is the folder "audit" in a coordinator's --data-dir, a copy of it, or files
of one. Every entry holds the hash of the one before it, so that entries which
were changed, removed or put elsewhere are found. What was cut off the end, and
a log that was made anew as a whole, are found only with a head that was noted
elsewhere: the coordinator writes it to its ordinary log as audit_head. Exits
with 1 when anything is wrong.)";

constexpr char kList[] = R"(Show entries of an audit log

Examples:
  espalier audit list espalier-data/audit
  espalier audit list espalier-data/audit --caller ada --since 24h
  espalier audit list espalier-data/audit --call CancelJob -o json

The newest entries, oldest first. Only entries that are as they were written are
shown; when others are not, the command says so and exits with 1.)";

struct VerifyOptions {
  std::vector<std::string> paths;
  std::vector<std::string> heads;
};

struct ListOptions {
  std::vector<std::string> paths;
  std::string caller;
  std::string call;
  std::string outcome;
  std::string since;
  size_t limit = 1000;
};

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
}

absl::StatusOr<audit::Findings> Check(const std::vector<std::string>& paths,
                                      const std::vector<audit::Head>& heads,
                                      const audit::Visit& visit) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(const auto found, audit::FilesOf(files, paths));
  return audit::Verify(files, found, heads, visit);
}

Json AsJson(const audit::Findings& findings) {
  Json problems = Json::array();
  for (const audit::Problem& problem : findings.problems) {
    problems.push_back({{"file", problem.file},
                        {"line", problem.line},
                        {"seq", problem.seq},
                        {"text", problem.text}});
  }
  Json result = {{"entries", findings.entries},
                 {"head", findings.entries > 0 ? audit::ToText(findings.head) : ""},
                 {"previous_hash", findings.first_prev},
                 {"problems_in_all", findings.problems_in_all},
                 {"problems", std::move(problems)},
                 {"notes", findings.notes}};
  if (findings.entries > 0) {
    result["first_seq"] = findings.first_seq;
    result["first_time"] = TimeText(findings.first_time);
    result["last_time"] = TimeText(findings.last_time);
  }
  return result;
}

void PrintFindings(Context& context, const audit::Findings& findings) {
  if (findings.entries > 0) {
    const bool whole = findings.first_prev == audit::FirstPrev();
    PrintFields(
        context.out, context.out_terminal,
        {{"entries", std::to_string(findings.entries)},
         {"first", fmt::format("{} of {}{}", findings.first_seq, TimeText(findings.first_time),
                               whole ? "" : ", which follows others that are not here")},
         {"last", fmt::format("{} of {}", findings.head.seq, TimeText(findings.last_time))},
         {"head", audit::ToText(findings.head)}});
  }
  for (const std::string& note : findings.notes) {
    context.err << "note: " << base::Printable(note) << "\n";
  }
  for (const audit::Problem& problem : findings.problems) {
    std::string place = problem.file;
    if (problem.line > 0) place += fmt::format(", line {}", problem.line);
    if (problem.seq > 0) place += fmt::format("{}entry {}", place.empty() ? "" : ", ", problem.seq);
    context.out << base::Printable(fmt::format("CHANGED {}: {}", place, problem.text)) << "\n";
  }
  const uint64_t more = findings.problems_in_all - findings.problems.size();
  if (more > 0) context.out << fmt::format("CHANGED and {} more\n", more);
  if (findings.problems_in_all == 0) context.err << "the log is as it was written\n";
}

absl::StatusOr<int> VerifyLog(Context& context, const VerifyOptions& options) {
  std::vector<audit::Head> heads;
  for (const std::string& text : options.heads) {
    ESPALIER_ASSIGN_OR_RETURN(heads.emplace_back(), audit::ParseHead(text));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto findings, Check(options.paths, heads, {}));
  if (context.options.format == Format::kTable) {
    PrintFindings(context, findings);
  } else {
    PrintData(context.out, context.options.format, AsJson(findings));
  }
  return findings.problems_in_all == 0 ? kExitDone : kExitUnexpected;
}

// "24h" before now, or a time as the log writes it.
absl::StatusOr<absl::Time> ParseSince(const std::string& text) {
  absl::Duration before;
  if (text.empty()) return absl::InfinitePast();
  if (absl::ParseDuration(text, &before)) return base::RealClock().Wall() - before;
  absl::Time time;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return time;
  return base::InvalidArgument(
      "USAGE", fmt::format("--since: expected a duration such as 24h, or a time such as "
                           "2026-12-01T09:30:00Z, found '{}'",
                           base::PrintablePrefix(text, 100)));
}

bool Fits(const std::string& wanted, const std::string& value) {
  return wanted.empty() || wanted == value;
}

Json AsJson(const audit::Record& record) {
  const audit::Entry& entry = record.entry;
  return {{"seq", record.seq},   {"time", TimeText(entry.time)}, {"caller", entry.caller},
          {"role", entry.role},  {"source", entry.source},       {"from", entry.from},
          {"call", entry.call},  {"object", entry.object},       {"outcome", entry.outcome},
          {"note", record.note}, {"hash", record.hash}};
}

absl::StatusOr<int> ListEntries(Context& context, const ListOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const absl::Time since, ParseSince(options.since));
  std::deque<audit::Record> records;
  const auto keep = [&](const audit::Record& record) {
    const audit::Entry& entry = record.entry;
    if (entry.time < since || !Fits(options.caller, entry.caller) ||
        !Fits(options.call, entry.call) || !Fits(options.outcome, entry.outcome)) {
      return;
    }
    records.push_back(record);
    if (records.size() > options.limit) records.pop_front();
  };
  ESPALIER_ASSIGN_OR_RETURN(const auto findings, Check(options.paths, {}, keep));
  if (context.options.format != Format::kTable) {
    Json entries = Json::array();
    for (const audit::Record& record : records) entries.push_back(AsJson(record));
    PrintData(context.out, context.options.format, Json{{"entries", std::move(entries)}});
  } else {
    Table table({{"SEQ", true},
                 {"TIME"},
                 {"CALLER"},
                 {.title = "ROLE", .drop = 3},
                 {"CALL"},
                 {.title = "OBJECT", .drop = 1},
                 {"OUTCOME"},
                 {.title = "FROM", .drop = 2},
                 {.title = "SOURCE", .drop = 4},
                 {.title = "NOTE", .drop = 5}});
    const auto shown = [](const std::string& text) { return text.empty() ? "-" : text; };
    for (const audit::Record& record : records) {
      const audit::Entry& entry = record.entry;
      table.Add({std::to_string(record.seq), TimeText(entry.time), shown(entry.caller),
                 shown(entry.role), shown(entry.call), shown(entry.object), shown(entry.outcome),
                 shown(entry.from), shown(entry.source), shown(record.note)});
    }
    table.Print(context.out, context.out_terminal);
  }
  if (findings.problems_in_all == 0) return kExitDone;
  context.err << fmt::format(
      "the log is not as it was written, in {} place{}: see espalier audit "
      "verify\n",
      findings.problems_in_all, findings.problems_in_all == 1 ? "" : "s");
  return kExitUnexpected;
}

}  // namespace

void AddAudit(CLI::App& parent, Command& chosen) {
  auto verified = std::make_shared<VerifyOptions>();
  CLI::App* verify = parent.add_subcommand("verify", kVerify);
  verify->add_option("PATH", verified->paths, "A folder of the log, or files of it")->required();
  verify
      ->add_option("--head", verified->heads,
                   "An entry that has to be there, as audit_head named it; may be repeated")
      ->type_name("SEQ:HASH")
      ->allow_extra_args(false);
  verify->callback([&chosen, verified] {
    chosen = [verified](Context& context) { return VerifyLog(context, *verified); };
  });
  auto listed = std::make_shared<ListOptions>();
  CLI::App* list = parent.add_subcommand("list", kList);
  list->add_option("PATH", listed->paths, "A folder of the log, or files of it")->required();
  list->add_option("--caller", listed->caller, "Only calls of this caller");
  list->add_option("--call", listed->call, "Only this call, such as CreateJob");
  list->add_option("--outcome", listed->outcome, "Only with this outcome: ok, or a reason");
  list->add_option("--since", listed->since, "A duration such as 24h, or a time in RFC 3339")
      ->type_name("TIME");
  list->add_option("--limit", listed->limit, "How many at most")
      ->check(base::Between<size_t>(1, 1'000'000))
      ->capture_default_str();
  list->callback([&chosen, listed] {
    chosen = [listed](Context& context) { return ListEntries(context, *listed); };
  });
}

}  // namespace espalier::cli
