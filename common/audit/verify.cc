#include "common/audit/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "common/audit/reading.h"
#include "common/base/status.h"

namespace espalier::audit {
namespace {

std::string NameOf(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string Entries(uint64_t first, uint64_t last) {
  return first == last ? fmt::format("entry {}", first)
                       : fmt::format("entries {} to {}", first, last);
}

// Whether a line that ends without a newline may be one that the log was writing.
bool MayBeUnfinished(std::string_view piece, uint64_t seq) {
  const std::string begins = fmt::format("{{\"seq\":{},\"time\":\"", seq);
  const size_t compared = std::min(begins.size(), piece.size());
  // Nothing comes after the hash but a newline.
  const size_t hash = piece.find(kHashBegins);
  return piece.substr(0, compared) == std::string_view(begins).substr(0, compared) &&
         (hash == std::string_view::npos || piece.size() - hash <= kHashBytes);
}

// Follows the chain over all files.
class Chain {
 public:
  Chain(Findings& findings, std::vector<Head> heads, const Visit& visit)
      : findings_(findings), heads_(std::move(heads)), visit_(visit) {}

  void BeginFile(const std::string& path) {
    path_ = path;
    line_ = 0;
  }

  void Take(const std::string& line) {
    ++line_;
    const auto record = ReadLine(line);
    const uint64_t expected = next_.value_or(ParseFileName(NameOf(path_)).value_or(0));
    if (!record.ok()) {
      Report(expected, "expected an entry, found " + base::MessageOf(record.status()) +
                           "; the line was changed");
      // What its hash was is not known any more.
      next_ = expected + 1;
      prev_.reset();
      return;
    }
    if (HashOf(line) != record->hash) {
      Report(expected,
             "expected the entry with the hash that it ends with, found that its words "
             "give another; the entry was changed");
      next_ = expected + 1;
      prev_.reset();
      return;
    }
    if (!CheckPlace(*record, expected)) return;
    next_ = record->seq + 1;
    prev_ = record->hash;
    Count(*record);
  }

  // Bytes after the last newline of a file.
  void TakePiece(const std::string& piece, bool newest_file) {
    ++line_;
    const uint64_t expected = next_.value_or(ParseFileName(NameOf(path_)).value_or(0));
    if (newest_file && MayBeUnfinished(piece, expected)) {
      findings_.notes.push_back(
          fmt::format("The last line of {} is not finished: it is being written, or the "
                      "coordinator was killed there. It counts as no entry.",
                      path_));
      return;
    }
    Report(expected,
           "expected an entry with a newline after it, found none; the end of the file "
           "was changed");
    next_ = expected + 1;
    prev_.reset();
  }

  void Report(uint64_t seq, std::string text) {
    ++findings_.problems_in_all;
    if (findings_.problems.size() >= kMaxProblems) return;
    findings_.problems.push_back({path_, line_, seq, std::move(text)});
  }

  // Heads that no entry was found for.
  void Finish() {
    path_.clear();
    line_ = 0;
    for (const Head& head : heads_) {
      if (head.seq == 0) continue;
      if (head.seq < findings_.first_seq) {
        Report(head.seq, fmt::format("expected entry {}, which --head names, found that the files "
                                     "begin with entry {}; add older files or use a later head",
                                     head.seq, findings_.first_seq));
      } else if (head.seq > findings_.head.seq) {
        Report(head.seq,
               fmt::format("expected entry {}, which --head names, found that the log ends with "
                           "entry {}: its end was cut off",
                           head.seq, findings_.head.seq));
      } else {
        Report(head.seq, fmt::format("expected entry {} with the hash that --head names, found "
                                     "none: it was changed or removed, or the chain was made anew",
                                     head.seq));
      }
    }
  }

 private:
  // Whether the entry is one that goes on with the chain, perhaps after a gap.
  bool CheckPlace(const Record& record, uint64_t expected) {
    if (line_ == 1 && ParseFileName(NameOf(path_)) != record.seq) {
      Report(record.seq, fmt::format("expected the entry that the file is named after, found entry "
                                     "{}: entries were removed, or the file was renamed",
                                     record.seq));
    }
    if (record.entry.outcome == kBroken && record.entry.call == kBegin) {
      Report(record.seq,
             "expected one chain, found the beginning of another: the coordinator "
             "found the former changed when it started");
      return true;
    }
    if (!next_) return true;
    if (record.seq < expected) {
      Report(record.seq, fmt::format("expected entry {}, found entry {}, which stands twice or not "
                                     "in its place",
                                     expected, record.seq));
      return false;
    }
    if (record.seq > expected) {
      Report(expected, fmt::format("expected entry {}, found entry {}: {} removed or not in place",
                                   expected, record.seq, Entries(expected, record.seq - 1)));
    } else if (prev_ && record.prev != *prev_) {
      Report(record.seq,
             "expected the entry that follows the one before, found one that follows "
             "another: one of them was changed");
    }
    return true;
  }

  void Count(const Record& record) {
    if (findings_.entries++ == 0) {
      findings_.first_seq = record.seq;
      findings_.first_time = record.entry.time;
      findings_.first_prev = record.prev;
    }
    findings_.last_time = record.entry.time;
    findings_.head = {record.seq, record.hash};
    for (Head& head : heads_) {
      if (head.seq == record.seq && head.hash == record.hash) head.seq = 0;
    }
    if (visit_) visit_(record);
  }

  Findings& findings_;
  std::vector<Head> heads_;  // seq 0: found
  const Visit& visit_;
  std::string path_;
  int64_t line_ = 0;
  std::optional<uint64_t> next_;     // none before the first entry
  std::optional<std::string> prev_;  // none when it is not known
};

// What the file after `path` says of it, if it begins with an entry of kBegin.
absl::StatusOr<std::optional<Former>> WhatTheNextSays(io::FileSystem& files,
                                                      const std::string& path,
                                                      const std::string& next) {
  ESPALIER_ASSIGN_OR_RETURN(const auto file, files.Open(next));
  Lines lines(*file, 0, std::min<uint64_t>(file->size(), kMaxLineBytes));
  ESPALIER_ASSIGN_OR_RETURN(const bool any, lines.Next());
  if (!any || !lines.finished()) return std::nullopt;
  const auto record = ReadLine(lines.line());
  if (!record.ok() || record->entry.call != kBegin || HashOf(lines.line()) != record->hash) {
    return std::nullopt;
  }
  const std::optional<Former> former = ParseNote(record->note);
  if (!former || former->file != NameOf(path)) return std::nullopt;
  return former;
}

absl::Status VerifyFile(io::FileSystem& files, const std::string& path, const std::string* next,
                        Chain& chain, Findings& findings) {
  ESPALIER_ASSIGN_OR_RETURN(const auto file, files.Open(path));
  uint64_t end = file->size();
  uint64_t added = 0;
  if (next != nullptr) {
    ESPALIER_ASSIGN_OR_RETURN(const auto former, WhatTheNextSays(files, path, *next));
    if (former && former->kept < end) {
      const uint64_t more = end - former->kept;
      findings.notes.push_back(
          fmt::format("{} bytes at the end of {} count as no entries: {} says that the file was "
                      "left there, in the middle of writing.",
                      more, path, NameOf(*next)));
      added = more > former->torn ? more - former->torn : 0;
      end = former->kept;
    }
  }
  chain.BeginFile(path);
  Lines lines(*file, 0, end);
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next());
    if (!more) break;
    if (lines.finished()) {
      chain.Take(lines.line());
    } else {
      chain.TakePiece(lines.line(), next == nullptr && lines.taken() == end);
    }
  }
  if (end == 0) {
    chain.Report(0, "expected entries, found an empty file: they were removed");
  }
  if (added > 0) {
    chain.Report(0, fmt::format("expected the end of the file where {} says that it was, found {} "
                                "more bytes: they were added",
                                NameOf(*next), added));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FilesOf(io::FileSystem& files,
                                                 const std::vector<std::string>& paths) {
  std::vector<std::pair<uint64_t, std::string>> found;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      const std::optional<uint64_t> seq = ParseFileName(NameOf(path));
      if (!seq) {
        return base::InvalidArgument(
            "AUDIT_FILE_NAME",
            fmt::format("expected a folder, or a file of the audit log with its own name, such as "
                        "{}, found '{}'; give it that name again",
                        FileName(1), path));
      }
      found.emplace_back(*seq, path);
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
    for (const std::string& name : names) {
      if (const auto seq = ParseFileName(name)) {
        found.emplace_back(*seq, (std::filesystem::path(path) / name).string());
      }
    }
  }
  if (found.empty()) {
    return base::NotFound("AUDIT_LOG_NOT_FOUND",
                          fmt::format("expected files of the audit log, such as {}, found none; "
                                      "name the folder 'audit' in a coordinator's --data-dir",
                                      FileName(1)));
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> sorted;
  sorted.reserve(found.size());
  for (auto& [seq, path] : found) sorted.push_back(std::move(path));
  return sorted;
}

absl::StatusOr<Findings> Verify(io::FileSystem& files, const std::vector<std::string>& paths,
                                const std::vector<Head>& heads, const Visit& visit) {
  Findings findings;
  Chain chain(findings, heads, visit);
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string* next = i + 1 < paths.size() ? &paths[i + 1] : nullptr;
    ESPALIER_RETURN_IF_ERROR(VerifyFile(files, paths[i], next, chain, findings));
  }
  chain.Finish();
  return findings;
}

}  // namespace espalier::audit
