#include "worker/data/table/row_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "worker/data/errors.h"
#include "worker/data/table/cells.h"

namespace espalier::worker::data {
namespace {

// Short runs of digits, the usual cell of an image, without the general parser.
bool ParseSmall(std::string_view text, float* value) {
  if (text.empty() || text.size() > 7) return false;
  int sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    sum = sum * 10 + (c - '0');
  }
  *value = static_cast<float>(sum);
  return true;
}

// "1,5" for 1.5.
bool IsDecimalComma(std::string_view cell) {
  std::string text(cell);
  std::replace(text.begin(), text.end(), ',', '.');
  return text != cell && ParseNumber<double>(text).has_value();
}

constexpr char kHelpsMissing[] =
    "put a number there, or set data.missing to mean (the column's mean) or drop (without the "
    "line)";
constexpr char kHelpsMissingToPredict[] =
    "put a number there; the model knows what becomes of missing values when it was trained with "
    "data.missing: mean";
constexpr char kHelpsAgreement[] = "submit the job again, so that the sites agree anew";
constexpr char kHelpsNewWord[] =
    "correct the word, or leave the row out: the model was trained without it";
constexpr char kHelpsWords[] =
    "put a number there; if it is the column of the labels, set data.label_column; else remove the "
    "column, or set data.words to one_hot, which makes a feature of each word (not for dates, and "
    "not for what names examples)";

}  // namespace

bool ParseFeature(std::string_view text, float* value) {
  if (ParseSmall(text, value)) return true;
  const auto number = ParseNumber<double>(text);
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (!number.has_value() || !(std::abs(*number) <= kLargest)) return false;
  *value = static_cast<float>(*number);
  return true;
}

void RowEncoder::SetAgreed(size_t index, const v1::Agreement::Column& agreed, bool named) {
  Column& column = columns_[index];
  if (named) column.name = agreed.name();
  column.mean = agreed.mean();
  if (agreed.words().empty()) return;
  column.words = std::make_unique<Numbering>();
  for (const std::string& word : agreed.words()) column.words->Of(word);
}

size_t RowEncoder::features() const {
  size_t features = 0;
  for (const Column& column : columns_) features += column.width();
  return features;
}

std::string RowEncoder::Where(const Place& place, size_t column) const {
  const std::string& name = columns_[column].name;
  return fmt::format("{} {}, column {}{}", place.unit, place.number, places_[column] + 1,
                     name.empty() ? "" : fmt::format(" ({})", Quote(name)));
}

absl::Status RowEncoder::RefuseMissing(const Place& place, size_t column,
                                       std::string_view cell) const {
  const bool unnamed = columns_[column].name.starts_with("column ");
  return DatasetInvalid(
      place.file,
      {Where(place, column), "a finite number", cell.empty() ? "an empty cell" : Quote(cell),
       unnamed ? "remove the delimiters at the ends of lines, which make an empty column without a "
                 "name"
       : purpose_ == Purpose::kPredict ? kHelpsMissingToPredict
                                       : kHelpsMissing});
}

// A cell that is no number.
absl::Status RowEncoder::TakeOther(const Place& place, size_t column, std::string_view cell,
                                   float* values, bool* gap) const {
  const Column& of = columns_[column];
  const bool one_hot = spec_.words() == v1::DataSpec::WORDS_ONE_HOT;
  const auto complain = [&](const char* expected, const char* fix) {
    return DatasetInvalid(place.file, {Where(place, column), expected, Quote(cell), fix});
  };
  if (IsMissing(cell)) {
    *gap = true;
    if (of.words == nullptr) *values = static_cast<float>(of.mean);
    // A prediction cannot leave a row out.
    const bool allowed =
        spec_.missing() == v1::DataSpec::MISSING_MEAN ||
        (spec_.missing() == v1::DataSpec::MISSING_DROP && purpose_ != Purpose::kPredict);
    return allowed ? absl::OkStatus() : RefuseMissing(place, column, cell);
  }
  if (IsDecimalComma(cell)) {
    return complain("a number with a decimal point",
                    place.delimiter == ','
                        ? "write 1.5 in place of 1,5 and 1234 in place of 1,234, in all of the file"
                        : "write 1.5 in place of 1,5 in all of the file, for example with sed -i "
                          "'s/,/./g' FILE when it has no other commas");
  }
  if (const char* advice = AdviceOnNumber(cell); *advice != '\0' && !one_hot) {
    return complain("a finite number", advice);
  }
  const bool predict = purpose_ == Purpose::kPredict;
  if (of.words != nullptr) {
    return complain("a word that the sites agreed on when the job began",
                    predict ? kHelpsNewWord : kHelpsAgreement);
  }
  if (predict) return complain("a finite number", "put a number there, as in training");
  if (!one_hot) return complain("a finite number", kHelpsWords);
  if (purpose_ == Purpose::kDescribe) return absl::OkStatus();
  return complain("a finite number, as this column had no words when the job began",
                  kHelpsAgreement);
}

absl::Status RowEncoder::Encode(const Place& place, const Cells& cells, float* values,
                                bool* gap) const {
  *gap = false;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    const std::string_view cell = cells[places_[i]];
    const std::optional<int32_t> word =
        column.words == nullptr ? std::nullopt : column.words->Find(cell);
    if (column.words != nullptr) std::fill_n(values, column.width(), 0.0F);
    if (word.has_value()) {
      values[*word] = 1;
    } else if (column.words != nullptr || !ParseFeature(cell, values)) {
      absl::Status other = TakeOther(place, i, cell, values, gap);
      if (!other.ok()) return other;
    }
    values += column.width();
  }
  return absl::OkStatus();
}

}  // namespace espalier::worker::data
