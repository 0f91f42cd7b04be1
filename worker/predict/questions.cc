#include "worker/predict/questions.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/status.h"
#include "worker/data/byte_stream.h"
#include "worker/data/errors.h"
#include "worker/data/prediction/prediction.h"
#include "worker/data/table/cells.h"
#include "worker/data/table/records.h"

namespace espalier::worker::predict {
namespace {

constexpr char kUser[] = "user";
constexpr char kItem[] = "item";

void AddText(std::string_view text, const language::Tokenizer& tokenizer, int64_t context,
             v1::Examples& examples) {
  std::vector<int32_t> tokens = tokenizer.Encode(text);
  if (tokenizer.bos() >= 0) tokens.insert(tokens.begin(), tokenizer.bos());
  const size_t first = tokens.size() - std::min(tokens.size(), static_cast<size_t>(context));
  v1::Example& example = *examples.add_examples();
  example.mutable_tokens()->Assign(tokens.begin() + static_cast<int64_t>(first), tokens.end());
}

// Where users and items are in the rows of a table.
struct Places {
  size_t user = 0;
  size_t item = 1;
  bool header = false;
};

absl::StatusOr<Places> PlacesIn(const std::string& path,
                                const std::vector<std::string_view>& first) {
  const auto user = std::find(first.begin(), first.end(), kUser);
  const auto item = std::find(first.begin(), first.end(), kItem);
  if (user != first.end() && item != first.end()) {
    return Places{static_cast<size_t>(user - first.begin()),
                  static_cast<size_t>(item - first.begin()), true};
  }
  if (first.size() >= 2) return Places{};
  return data::DatasetInvalid(
      path, {data::AtLine(1), "a user and an item in each line, or a header that names both",
             fmt::format("{} column", first.size()),
             "write user,item; the best items for a user are what `espalier recommend` gives"});
}

}  // namespace

absl::StatusOr<v1::Examples> TextQuestions(const std::string& path,
                                           const language::Tokenizer& tokenizer, int64_t context,
                                           const data::LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(data::ByteStream stream, data::OpenStream(path, options));
  data::LineReader lines(stream);
  v1::Examples examples;
  std::string_view line;
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (!line.empty()) AddText(line, tokenizer, context, examples);
  }
  if (!examples.examples().empty()) return examples;
  return data::DatasetInvalid(
      path, {"", "a text to continue in each line", "none", "write at least one line"});
}

absl::StatusOr<v1::Examples> PairQuestions(const std::string& path,
                                           const data::LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(data::ByteStream stream, data::OpenStream(path, options));
  data::RecordReader records(stream);
  v1::Examples examples;
  std::optional<Places> places;
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, records.Next());
    if (!more) break;
    const auto& cells = records.cells();
    if (!places.has_value()) {
      ESPALIER_ASSIGN_OR_RETURN(places, PlacesIn(path, cells));
      if (places->header) continue;
    }
    if (cells.size() <= std::max(places->user, places->item)) {
      return data::DatasetInvalid(path, {data::AtLine(records.line_number()), "a user and an item",
                                         data::Quote(records.text()), "complete the line"});
    }
    v1::Example& example = *examples.add_examples();
    example.set_user(std::string(cells[places->user]));
    example.set_item(std::string(cells[places->item]));
  }
  if (!examples.examples().empty()) return examples;
  return data::DatasetInvalid(
      path, {"", "a user and an item in each line", "none", "write at least one line"});
}

}  // namespace espalier::worker::predict
