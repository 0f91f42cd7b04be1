#include "worker/data/interactions/fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/base/status.h"
#include "worker/data/byte_stream.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/interactions/columns.h"
#include "worker/data/interactions/lines.h"
#include "worker/data/interactions/read.h"

namespace espalier::worker::data {
namespace {

constexpr int64_t kMaxTableBytes = int64_t{4} << 30;
constexpr std::string_view kBetweenValues = "|";

// How a file says what is known of users or items.
struct Table {
  const char* file;
  bool of_items;
  std::string_view separator;        // empty: CSV with a header
  std::vector<std::string> columns;  // after the id
  size_t flags_from = 0;             // > 0: columns from there on are 0 or 1 and make one field
};

const std::vector<Table>& Tables() {
  static const auto& tables = *new std::vector<Table>{
      {"users.dat", false, "::", {"gender", "age", "occupation", "zip"}},
      {"u.user", false, "|", {"age", "gender", "occupation", "zip"}},
      {"users.csv", false, "", {}},
      {"movies.dat", true, "::", {"title", "genres"}},
      {"u.item", true, "|", {"title", "date", "video_date", "url", "genres"}, 5},
      {"items.csv", true, "", {}},
  };
  return tables;
}

// One field while its file is read.
struct Column {
  const v1::AutoIntField* spec;
  int index;                                    // in the model
  size_t cell = 0;                              // of a line
  std::string_view between = kBetweenValues;    // several values of a cell
  Numbering values = {};                        // as they are met
  std::vector<std::vector<int32_t>> rows = {};  // of every user or item
};

absl::Status NoFile(const InteractionData& data, const v1::AutoIntField& field) {
  std::vector<std::string> names;
  for (const Table& table : Tables()) {
    if (table.of_items == field.of_items()) names.emplace_back(table.file);
  }
  return DatasetInvalid(
      data.name, {"", fmt::format("{} for field {}", fmt::join(names, ", "), Quote(field.name())),
                  "none of them", "add the file, or take the field out of autoint.fields"});
}

// Reads the columns of one file.
class TableReader {
 public:
  TableReader(const Table& table, std::string file, const IdMap& ids)
      : table_(table), file_(std::move(file)), ids_(ids), seen_(ids.size()) {}

  absl::Status Read(ByteStream& stream, std::vector<Column>& columns) {
    for (Column& column : columns) column.rows.resize(ids_.size());
    TableLines lines = table_.separator.empty() ? TableLines::Csv(stream)
                                                : TableLines::Plain(stream, table_.separator);
    bool begun = false;
    for (;;) {
      ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next());
      if (!more) break;
      const bool is_header = !begun && table_.separator.empty();
      if (!begun) ESPALIER_RETURN_IF_ERROR(Begin(lines, columns));
      begun = true;
      if (!is_header) ESPALIER_RETURN_IF_ERROR(TakeLine(lines, columns));
      ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(file_, MemoryBytes(columns)));
    }
    if (begun) return absl::OkStatus();
    return DatasetInvalid(file_, {"", "at least one line", "none",
                                  "write what is known into it, or remove the file"});
  }

 private:
  int64_t MemoryBytes(const std::vector<Column>& columns) const {
    constexpr int64_t kBytesPerValue = 2 * sizeof(int32_t);  // in vectors that grow
    int64_t bytes = taken_ * kBytesPerValue;
    for (const Column& column : columns) {
      bytes += column.values.bytes() +
               static_cast<int64_t>(column.rows.size() * sizeof(std::vector<int32_t>));
    }
    return bytes;
  }

  // Finds the columns by the first line.
  absl::Status Begin(const TableLines& lines, std::vector<Column>& columns) {
    const Cells& cells = lines.cells();
    count_ = cells.size();
    std::vector<std::string> names = {""};
    names.insert(names.end(), table_.columns.begin(), table_.columns.end());
    if (table_.separator.empty()) ESPALIER_RETURN_IF_ERROR(TakeHeader(lines, names));
    for (Column& column : columns) {
      const auto found = std::ranges::find(names, column.spec->name());
      if (found == names.end()) {
        std::erase(names, "");
        return DatasetInvalid(
            file_, {"", fmt::format("a column {}", Quote(column.spec->name())),
                    fmt::format("{}", fmt::join(names, ", ")),
                    fmt::format("name one of them in autoint.fields[{}].name", column.index)});
      }
      column.cell = static_cast<size_t>(found - names.begin());
      if (table_.separator.empty() && IsSequence(cells[column.cell])) column.between = " ";
    }
    return absl::OkStatus();
  }

  // `names` become those of the header, "" for the ids'.
  absl::Status TakeHeader(const TableLines& lines, std::vector<std::string>& names) {
    const Cells& cells = lines.cells();
    ESPALIER_ASSIGN_OR_RETURN(const int id,
                              IdColumn(file_, lines.line_number(), cells, table_.of_items));
    if (id < 0) {
      return DatasetInvalid(file_, {fmt::format("line {}", lines.line_number()),
                                    fmt::format("a header that names the column {}",
                                                table_.of_items ? "item" : "user"),
                                    Quote(lines.text()), "add one"});
    }
    id_ = static_cast<size_t>(id);
    names.clear();
    for (const std::string_view cell : cells) names.emplace_back(WithoutType(cell));
    names[id_].clear();
    return absl::OkStatus();
  }

  absl::Status TakeLine(const TableLines& lines, std::vector<Column>& columns) {
    const Cells& cells = lines.cells();
    // What users are stays here: errors travel.
    const auto complain = [&](std::string expected, std::string fix) {
      return DatasetInvalid(
          file_, {fmt::format("line {}", lines.line_number()), std::move(expected),
                  table_.of_items ? Quote(lines.text()) : fmt::format("{} cells", cells.size()),
                  std::move(fix)});
    };
    if (cells.size() != count_ || count_ < table_.columns.size() + 1) {
      return complain(
          fmt::format("{} cells as in the first line", std::max(count_, table_.columns.size() + 1)),
          "use one separator in all of the file");
    }
    const std::optional<int32_t> row = ids_.Find(cells[id_]);
    if (row.has_value() && seen_[*row]) {
      return complain("each id once", "remove the line or the one before");
    }
    if (row.has_value()) seen_[*row] = true;
    for (Column& column : columns) TakeCell(cells, column, row);
    return absl::OkStatus();
  }

  // Values count whether or not anybody interacted with their user or item: numbers do not depend
  // on filters.
  void TakeCell(const Cells& cells, Column& column, std::optional<int32_t> row) {
    const auto take = [&](std::string_view value) {
      if (value.empty()) return;
      const int32_t number = column.values.Of(value);
      if (!row.has_value()) return;
      column.rows[*row].push_back(number);
      ++taken_;
    };
    if (table_.flags_from > 0 && column.cell == table_.flags_from) {
      for (size_t cell = table_.flags_from; cell < cells.size(); ++cell) {
        const std::string flag = std::to_string(cell - table_.flags_from);
        if (cells[cell] == "1") take(flag);
      }
      return;
    }
    SplitCells(cells[column.cell], column.between, values_);
    for (const std::string_view value : values_) take(value);
  }

  const Table& table_;
  std::string file_;
  const IdMap& ids_;
  std::vector<bool> seen_;
  size_t count_ = 0;
  size_t id_ = 0;
  int64_t taken_ = 0;  // values in rows
  std::vector<std::string_view> values_;
};

// The values themselves, when all are different whole numbers below `limit`: "07" and "7" are not.
std::optional<std::vector<int32_t>> AsNumbers(const std::vector<std::string>& values,
                                              int64_t limit) {
  std::vector<int32_t> numbers;
  for (const std::string& value : values) {
    int32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size()) return std::nullopt;
    if (number < 0 || number >= limit) return std::nullopt;
    numbers.push_back(number);
  }
  std::vector<int32_t> sorted = numbers;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) return std::nullopt;
  return numbers;
}

absl::StatusOr<ItemLists> Number(const std::string& file, Column column, bool local) {
  const std::vector<std::string> values = column.values.Take();
  std::vector<int32_t> numbers;
  if (!local && static_cast<int64_t>(values.size()) == column.spec->values()) {
    IdMap(values, numbers);
  } else if (auto same = AsNumbers(values, column.spec->values())) {
    numbers = *std::move(same);
  } else {
    return DatasetInvalid(
        file,
        {fmt::format("column {}", Quote(column.spec->name())),
         fmt::format("{}whole numbers below {}",
                     local ? "" : fmt::format("{} different values, or ", column.spec->values()),
                     column.spec->values()),
         fmt::format("{} different values", values.size()),
         local ? "number them alike on all workers"
               : fmt::format("set autoint.fields[{}].values to {}", column.index, values.size())});
  }
  ItemLists lists;
  for (std::vector<int32_t>& row : column.rows) {
    for (int32_t& value : row) value = numbers[value];
    std::ranges::sort(row);
    row.erase(std::unique(row.begin(), row.end()), row.end());
    lists.items.insert(lists.items.end(), row.begin(), row.end());
    lists.offsets.push_back(static_cast<int32_t>(lists.items.size()));
  }
  return lists;
}

// Fills `lists` at the model's fields about users, or items.
absl::Status LoadSide(const DataRoot& root, const InteractionData& data,
                      const v1::AutoIntModel& model, bool of_items, bool local, LoadOptions options,
                      std::vector<ItemLists>& lists) {
  options.max_file_bytes = std::min(options.max_file_bytes, kMaxTableBytes);
  std::vector<Column> columns;
  for (int i = 0; i < model.fields_size(); ++i) {
    if (model.fields(i).of_items() == of_items) columns.push_back({&model.fields(i), i});
  }
  if (columns.empty()) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(data.name));
  for (const Table& table : Tables()) {
    const auto file = table.of_items == of_items ? FindFile(files, table.file) : std::nullopt;
    if (!file.has_value()) continue;
    const std::string name = data.name + "/" + *file;
    ESPALIER_ASSIGN_OR_RETURN(UniqueFd opened, root.OpenFile(data.name, *file));
    ESPALIER_ASSIGN_OR_RETURN(ByteStream stream,
                              ByteStream::Open(std::move(opened), name, options));
    TableReader reader(table, name, of_items ? data.item_ids : data.user_ids);
    ESPALIER_RETURN_IF_ERROR(reader.Read(stream, columns));
    for (Column& column : columns) {
      ItemLists& target = lists[column.index];
      ESPALIER_ASSIGN_OR_RETURN(target, Number(name, std::move(column), local));
    }
    return absl::OkStatus();
  }
  return NoFile(data, *columns[0].spec);
}

}  // namespace

absl::StatusOr<std::vector<ItemLists>> LoadFields(const std::string& root,
                                                  const InteractionData& data,
                                                  const v1::AutoIntModel& model, bool local,
                                                  const LoadOptions& options) {
  std::vector<ItemLists> lists(model.fields_size());
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot opened, DataRoot::Open(root));
  for (const bool of_items : {false, true}) {
    ESPALIER_RETURN_IF_ERROR(LoadSide(opened, data, model, of_items, local, options, lists));
  }
  return lists;
}

std::vector<std::string> FieldTableNames() {
  std::vector<std::string> names;
  for (const Table& table : Tables()) names.emplace_back(table.file);
  return names;
}

}  // namespace espalier::worker::data
