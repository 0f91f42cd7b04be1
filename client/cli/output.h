// Results on standard output: tables for people, JSON, YAML and CSV for programs (json.h); and
// errors as they are printed.
//
// JSON is a stable contract. Table text may change at any time. In every format, values appear as
// base::Printable() writes them, so that no value can steer a terminal or begin a line; in tables
// they are cut when they are very long.
#pragma once

#include <google/protobuf/message.h>

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/json/json.h"

namespace espalier::cli {

// As all commands write it.
using client::Json;
using client::JsonOf;
using client::Layout;
using client::ToJson;
using client::ToYaml;
using client::Unset;

// kCsv: `job rounds` and `job features` alone.
enum class Format { kTable, kJson, kYaml, kCsv };

// What a stream leads to.
struct Terminal {
  bool is_tty = false;
  bool color = false;
  int columns = 80;
  int rows = 24;
};

// In kJson or kYaml.
void PrintData(std::ostream& out, Format format, const Json& value);
void PrintData(std::ostream& out, Format format, const google::protobuf::Message& message);

// Rows under a header. On a terminal columns are aligned (numbers to the right) and fit its width:
// columns that say nothing or that matter least are left out, text is wrapped between words. In a
// pipe values are separated by tabs, without header, and nothing is left out.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;
    // Whether it may be left out: the largest number goes first, 0 never; and where every row has
    // a "-".
    int drop = 0;
    bool wrap = false;  // text of many words
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  void Print(std::ostream& out, const Terminal& terminal) const;

 private:
  using Rows = std::vector<std::vector<std::string>>;
  // Of the columns that are shown; widths of all.
  std::vector<size_t> Shown(const Rows& rows, std::vector<int>& widths, int columns) const;
  bool SaysNothing(const Rows& rows, size_t column) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name: value" lines: aligned on a terminal, with long values wrapped; tab-separated in a pipe.
using Fields = std::vector<std::pair<std::string, std::string>>;
void PrintFields(std::ostream& out, const Terminal& terminal, const Fields& fields);

// `text` in lines of at most `columns` characters, broken at spaces and after commas, and inside of
// a word only where it is longer than a line. What had to be escaped came from elsewhere: its
// further lines have a mark in front, so that no part of it looks like a line of ours.
std::vector<std::string> Wrapped(const std::string& text, int columns);

// `text` in bold or in a colour (an ANSI code such as "31") when the terminal shows colours.
std::string Styled(const Terminal& terminal, const std::string& code, const std::string& text);

// Errors. What one quotes may come from another machine, so its message and its violations are one
// line each; further lines exist only where a command adds them.

// The same error with lines below its message, such as what to type next.
absl::Status WithFurtherLines(const absl::Status& status, const std::vector<std::string>& lines);

// An error as text for people (kTable, kCsv), or as a JSON object for programs.
std::string ErrorText(const absl::Status& status, Format format, const Terminal& terminal);

}  // namespace espalier::cli
