#include "worker/data/json_lines.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>

#include "common/base/status.h"
#include "common/language/architecture/strict_json.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

constexpr int kMaxDepth = 64;
// A parsed line, its text and its tokens beside the line itself.
constexpr int64_t kBytesPerLineByte = 8;

std::string Line(int64_t line) { return fmt::format("line {}", line); }

// The names of an object's fields, for a message.
std::string FieldsOf(const nlohmann::json& object) {
  constexpr size_t kMostNamed = 10;
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) {
    if (names.size() == kMostNamed) {
      names.emplace_back("...");
      break;
    }
    names.push_back(Quote(name));
  }
  return names.empty() ? "no field at all" : fmt::format("{}", fmt::join(names, ", "));
}

// The document of one line.
absl::StatusOr<std::string> DocumentOf(std::string_view line, const std::string& field,
                                       const std::string& file, int64_t number) {
  nlohmann::json object = language::ParseStrictObject(line, kMaxDepth);
  if (object.is_discarded()) {
    return DatasetInvalid(file, {Line(number), "one JSON object in UTF-8 with every key once",
                                 Quote(line), "write one object a line, like {\"text\": \"...\"}"});
  }
  const auto found = object.find(field);
  if (found == object.end()) {
    return DatasetInvalid(
        file, {Line(number), fmt::format("the field {}", Quote(field)), FieldsOf(object),
               "set data.text.field to the one that holds the text"});
  }
  if (!found->is_string()) {
    return DatasetInvalid(
        file, {Line(number), fmt::format("text in the field {}", Quote(field)),
               fmt::format("the {} {}", found->type_name(), Quote(found->dump())),
               "write it in double quotes, or set data.text.field to the one that holds the text"});
  }
  return std::move(found->get_ref<std::string&>());
}

void AppendDocument(const std::string& document, const language::Tokenizer& tokenizer,
                    std::vector<int32_t>& tokens) {
  const bool begins = tokenizer.bos() >= 0;
  const bool ends = !begins && tokenizer.eos() >= 0;
  if (begins) tokens.push_back(tokenizer.bos());
  const std::vector<int32_t> encoded =
      tokenizer.Encode(begins || ends ? document : document + "\n");
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  if (ends) tokens.push_back(tokenizer.eos());
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ReadJsonLines(ByteStream& stream, const std::string& field,
                                                   const language::Tokenizer& tokenizer) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  LineReader lines(stream);
  std::vector<int32_t> tokens;
  bool any = false;
  std::string_view line;
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (lines.line_number() == 1 && line.starts_with(kByteOrderMark)) {
      line.remove_prefix(kByteOrderMark.size());
    }
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckGoesOn());
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(
        stream.name(), static_cast<int64_t>(tokens.capacity() * sizeof(int32_t)) +
                           static_cast<int64_t>(line.size()) * kBytesPerLineByte));
    ESPALIER_ASSIGN_OR_RETURN(const std::string document,
                              DocumentOf(line, field, stream.name(), lines.line_number()));
    AppendDocument(document, tokenizer, tokens);
    any = true;
  }
  if (any) return tokens;
  return DatasetInvalid(stream.name(), {"", "one JSON object a line", "an empty file",
                                        "write objects like {\"text\": \"...\"}"});
}

}  // namespace espalier::worker::data
