#include "client/cli/data/rounds_csv.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>

#include <map>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/data/csv.h"
#include "client/cli/format.h"
#include "client/json/json.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace espalier::cli {
namespace {

using google::protobuf::FieldDescriptor;

// By column.
using Cells = std::map<std::string, std::string>;

bool IsDuration(const FieldDescriptor& field) {
  return field.message_type() != nullptr &&
         field.message_type()->full_name() == "google.protobuf.Duration";
}

// "" for fields that are no single value.
std::string ColumnOf(const FieldDescriptor& field) {
  if (field.is_repeated()) return "";
  if (IsDuration(field)) return field.name() + "_seconds";
  return field.message_type() == nullptr ? field.name() : "";
}

std::string Seconds(const google::protobuf::Duration& duration) {
  return client::ToJson(client::Json(absl::ToDoubleSeconds(ToDuration(duration))),
                        client::Layout::kLine);
}

std::string WithoutLineFeed(std::string text) {
  text.pop_back();
  return text;
}

template <typename Metrics>
void AddMetrics(const Metrics& metrics, const std::string& prefix, Cells& cells) {
  for (const v1::Metric& metric : metrics) {
    cells[prefix + metric.name()] =
        WithoutLineFeed(client::ToJson(client::Json(metric.value()), client::Layout::kLine));
  }
}

Cells MetricsOf(const v1::RoundSummary& round) {
  Cells cells;
  AddMetrics(round.test_metrics(), "", cells);
  AddMetrics(round.federated_test_metrics(), "federated_", cells);
  return cells;
}

// What stands in the column of a field; the round as JSON says what is absent.
std::string CellOf(const v1::RoundSummary& round, const client::Json& values,
                   const FieldDescriptor& field) {
  const auto value = values.find(field.name());
  if (value == values.end()) return "";
  if (!IsDuration(field)) return WithoutLineFeed(client::ToJson(*value, client::Layout::kLine));
  const auto& duration = dynamic_cast<const google::protobuf::Duration&>(
      round.GetReflection()->GetMessage(round, &field));
  return WithoutLineFeed(Seconds(duration));
}

}  // namespace

std::string RoundsCsv(const v1::ListRoundsResponse& rounds) {
  const auto& type = *v1::RoundSummary::descriptor();
  std::vector<const FieldDescriptor*> fields;
  std::vector<std::string> columns;
  for (int i = 0; i < type.field_count(); ++i) {
    const std::string column = ColumnOf(*type.field(i));
    if (column.empty()) continue;
    fields.push_back(type.field(i));
    columns.push_back(column);
  }
  std::vector<Cells> metrics;
  Cells names;
  for (const v1::RoundSummary& round : rounds.rounds()) {
    metrics.push_back(MetricsOf(round));
    for (const auto& [name, value] : metrics.back()) names[name] = "";
  }
  for (const auto& [name, nothing] : names) columns.push_back(CsvCell(name));
  std::string text = fmt::format("{}\n", fmt::join(columns, ","));
  for (int i = 0; i < rounds.rounds_size(); ++i) {
    const client::Json values = client::JsonOf(rounds.rounds(i));
    std::vector<std::string> cells;
    cells.reserve(columns.size());
    for (const FieldDescriptor* field : fields) {
      cells.push_back(CellOf(rounds.rounds(i), values, *field));
    }
    for (const auto& [name, nothing] : names) {
      cells.push_back(metrics[static_cast<size_t>(i)][name]);
    }
    text += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return text;
}

}  // namespace espalier::cli
