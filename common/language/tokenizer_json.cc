// tokenizer.json of Hugging Face's `tokenizers`: type BPE, on bytes as GPT-2's and LLaMA 3's, or on
// code points with byte fallback as LLaMA 2's.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/language/architecture/strict_json.h"
#include "common/language/pair_bpe.h"
#include "common/language/space_symbol.h"

namespace espalier::language {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxJsonBytes = 64 << 20;
constexpr int kMaxDepth = 16;
constexpr size_t kMaxMerges = 1 << 24;  // ranks are exact as float
// Token numbers may have gaps, of at most this many in all.
constexpr int64_t kMaxGaps = 1 << 16;

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("TOKENIZER_INVALID", "tokenizer.json: " + what);
}

absl::Status Unsupported(const std::string& expected, const std::string& found) {
  return Invalid(fmt::format(
      "expected {}, found {}; tokenise the text beforehand, or use the model's tokenizer.model",
      expected, found));
}

// The member, or null.
const json& Member(const json& object, const char* key) {
  static const json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

std::string Text(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

bool Flag(const json& object, const char* key, bool fallback) {
  const json& value = Member(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

std::string TypeOf(const json& component) {
  return component.is_null() ? "none" : "'" + Text(Member(component, "type")) + "'";
}

// Steps of a component that may be a "Sequence" of them under `key`.
std::vector<json> Steps(const json& component, const char* key) {
  if (component.is_null()) return {};
  if (Text(Member(component, "type")) != "Sequence") return {component};
  const json& steps = Member(component, key);
  return steps.is_array() ? steps.get<std::vector<json>>() : std::vector<json>{component};
}

// GPT-2's letters for bytes: printable characters of Latin-1 stand for themselves, the others for
// U+0100 and on, in order. −1 for characters that are none of them.
class ByteLetters {
 public:
  ByteLetters() {
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool own = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
      letters_[Utf8(own ? byte : next++)] = static_cast<char>(byte);
    }
  }
  // The bytes that a piece's letters stand for; none when it has others.
  std::optional<std::string> Bytes(std::string_view piece) const {
    std::string bytes;
    while (!piece.empty()) {
      const size_t size = CodePointBytes(piece);
      const auto letter = letters_.find(std::string(piece.substr(0, size)));
      if (letter == letters_.end()) return std::nullopt;
      bytes += letter->second;
      piece.remove_prefix(size);
    }
    return bytes;
  }

 private:
  static std::string Utf8(int code) {
    if (code < 0x80) return {static_cast<char>(code)};
    return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
  }
  std::unordered_map<std::string, char> letters_;
};

// 0x41 of "<0x41>".
std::optional<unsigned char> FallbackByte(const std::string& piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  char* end = nullptr;
  const std::string digits = piece.substr(3, 2);
  const auto byte = std::strtoul(digits.c_str(), &end, 16);
  if (end != digits.c_str() + 2 || digits[0] == '+' || digits[0] == '-') return std::nullopt;
  return static_cast<unsigned char>(byte);
}

class Reader {
 public:
  explicit Reader(const json& file) : file_(file), model_(Member(file, "model")) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read() {
    ESPALIER_RETURN_IF_ERROR(CheckModel());
    ESPALIER_RETURN_IF_ERROR(ReadSteps());
    ESPALIER_RETURN_IF_ERROR(ReadAddedTokens());
    ESPALIER_RETURN_IF_ERROR(ReadVocabulary());
    ESPALIER_RETURN_IF_ERROR(ReadMerges());
    ReadBos();
    return std::make_unique<PairBpeTokenizer>(std::move(tables_));
  }

 private:
  absl::Status CheckModel() {
    // Files of old versions do not name the type.
    const std::string type = Text(Member(model_, "type"));
    if (!model_.is_object() || (!type.empty() && type != "BPE")) {
      return Unsupported("a model of type BPE", TypeOf(model_));
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!Text(Member(model_, key)).empty()) {
        return Unsupported(fmt::format("a model without {}", key), "one with it");
      }
    }
    const json& dropout = Member(model_, "dropout");
    if (dropout.is_number() && dropout.get<double>() != 0) {
      return Unsupported("a model without dropout", "one with it");
    }
    tables_.whole_words = Flag(model_, "ignore_merges", false);
    return absl::OkStatus();
  }

  absl::Status ReadSteps() {
    const std::vector<json> words = Steps(Member(file_, "pre_tokenizer"), "pretokenizers");
    tables_.byte_level = !words.empty() && Text(Member(words.back(), "type")) == "ByteLevel";
    return tables_.byte_level ? ReadByteLevel(words) : ReadSpaces(words);
  }

  absl::Status ReadByteLevel(const std::vector<json>& words) {
    if (!Member(file_, "normalizer").is_null()) {
      return Unsupported("no normalizer of text on bytes", TypeOf(Member(file_, "normalizer")));
    }
    for (const json& step : words) {
      std::string pattern;
      if (&step == &words.back()) {
        if (Flag(step, "add_prefix_space", true)) {
          return Unsupported("ByteLevel with add_prefix_space: false", "true");
        }
        if (!Flag(step, "use_regex", true)) break;
        pattern = kGpt2Words;
      } else {
        const bool isolated = Text(Member(step, "behavior")) == "Isolated";
        if (Text(Member(step, "type")) != "Split" || !isolated || Flag(step, "invert", false)) {
          return Unsupported("words by Split with behavior Isolated", TypeOf(step));
        }
        pattern = Text(Member(Member(step, "pattern"), "Regex"));
      }
      tables_.splitters.push_back(WordSplitter::Create(pattern));
      if (tables_.splitters.back() == nullptr) {
        return Unsupported("the words of GPT-2, LLaMA 3 or Qwen 2",
                           fmt::format("the pattern '{}'", pattern));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadSpaces(const std::vector<json>& words) {
    using Prefix = PairBpeTables::Prefix;
    if (!Flag(model_, "byte_fallback", false)) {
      return Unsupported("text on bytes (ByteLevel) or a model with byte_fallback", "neither");
    }
    for (const json& step : Steps(Member(file_, "normalizer"), "normalizers")) {
      const std::string type = Text(Member(step, "type"));
      if (type == "Prepend" && Text(Member(step, "prepend")) == kSpaceSymbol) {
        tables_.prefix = Prefix::kAlways;
      } else if (type != "Replace" || Text(Member(Member(step, "pattern"), "String")) != " " ||
                 Text(Member(step, "content")) != kSpaceSymbol) {
        return Unsupported("normalizers that write spaces as '▁', as LLaMA 2's", TypeOf(step));
      }
    }
    if (words.empty()) return absl::OkStatus();
    const json& step = words.front();
    const std::string scheme = Text(Member(step, "prepend_scheme"));
    if (words.size() > 1 || Text(Member(step, "type")) != "Metaspace" ||
        Text(Member(step, "replacement")) != kSpaceSymbol || Flag(step, "split", true)) {
      return Unsupported("no words, or Metaspace with split: false", TypeOf(step));
    }
    if (scheme != "never") tables_.prefix = Prefix::kUnlessThere;
    return absl::OkStatus();
  }

  // Control tokens by their text.
  absl::Status ReadAddedTokens() {
    const json& added = Member(file_, "added_tokens");
    if (added.is_null()) return absl::OkStatus();
    if (!added.is_array()) return Invalid("expected a list of added_tokens, found something else");
    for (const json& token : added) {
      const std::string content = Text(Member(token, "content"));
      const json& number = Member(token, "id");
      if (content.empty() || !number.is_number_unsigned()) {
        return Invalid("expected added tokens with content and id, found one without");
      }
      if (!Flag(token, "special", false)) {
        return Unsupported("added tokens that are special", fmt::format("'{}'", content));
      }
      special_[content] = number.get<uint64_t>();
    }
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    const json& vocabulary = Member(model_, "vocab");
    if (!vocabulary.is_object()) return Invalid("expected model.vocab, a map; found none");
    const uint64_t most = vocabulary.size() + special_.size() + kMaxGaps;
    tables_.bytes.fill(-1);
    std::unordered_map<std::string, uint64_t> numbers = special_;
    for (const auto& [piece, value] : vocabulary.items()) {
      if (!value.is_number_unsigned()) {
        return Invalid(fmt::format("expected the number of token '{}', found none", piece));
      }
      const auto [known, added] = numbers.try_emplace(piece, value.get<uint64_t>());
      if (known->second != value.get<uint64_t>()) {
        return Invalid(fmt::format("token '{}' has two numbers", piece));
      }
    }
    for (const auto& [piece, number] : numbers) {
      if (number >= most) {
        return Invalid(fmt::format("expected token numbers below {} for {} tokens, found {}", most,
                                   numbers.size(), number));
      }
      ESPALIER_RETURN_IF_ERROR(AddToken(piece, static_cast<int32_t>(number)));
    }
    const auto missing = std::ranges::find(tables_.bytes, -1);
    if (missing == tables_.bytes.end()) return absl::OkStatus();
    return Invalid(fmt::format("expected a token for each byte, found none for byte {}",
                               missing - tables_.bytes.begin()));
  }

  absl::Status AddToken(const std::string& piece, int32_t number) {
    if (number >= static_cast<int64_t>(taken_.size())) {
      taken_.resize(number + 1);
      tables_.pieces.resize(number + 1);
    }
    if (std::exchange(taken_[number], 1) != 0) {
      return Invalid(fmt::format("token {} is there twice, once as '{}'", number, piece));
    }
    if (special_.contains(piece)) return absl::OkStatus();
    numbers_[piece] = number;
    if (tables_.byte_level) {
      const std::optional<std::string> bytes = letters_.Bytes(piece);
      if (!bytes || bytes->empty()) {
        return Invalid(
            fmt::format("expected tokens of GPT-2's letters for bytes, found '{}'", piece));
      }
      if (bytes->size() == 1) tables_.bytes[static_cast<unsigned char>(bytes->front())] = number;
      tables_.pieces[number] = *bytes;
      tables_.numbers[*bytes] = number;
      return absl::OkStatus();
    }
    if (const auto byte = FallbackByte(piece)) {
      tables_.bytes[*byte] = number;
      tables_.pieces[number] = std::string(1, static_cast<char>(*byte));
      return absl::OkStatus();
    }
    tables_.pieces[number] = WithSpaces(piece);
    tables_.numbers[tables_.pieces[number]] = number;
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    const json& merges = Member(model_, "merges");
    if (!merges.is_array() || merges.size() > kMaxMerges) {
      return Invalid(fmt::format("expected model.merges, a list of at most {}; found another value",
                                 kMaxMerges));
    }
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const auto [left, right] = PairOf(merges[rank]);
      const auto a = numbers_.find(left);
      const auto b = numbers_.find(right);
      const auto both = numbers_.find(left + right);
      if (left.empty() || right.empty() || a == numbers_.end() || b == numbers_.end() ||
          both == numbers_.end()) {
        return Invalid(
            fmt::format("expected merge {} to be of two tokens whose union is one, found '{}' and "
                        "'{}'",
                        rank, left, right));
      }
      tables_.merges[PairKey(a->second, b->second)] = {-static_cast<float>(rank), both->second};
    }
    return absl::OkStatus();
  }

  // "a b" or ["a", "b"].
  static std::pair<std::string, std::string> PairOf(const json& merge) {
    if (merge.is_array() && merge.size() == 2) return {Text(merge[0]), Text(merge[1])};
    const std::string text = Text(merge);
    const size_t space = text.find(' ');
    if (space == std::string::npos) return {text, ""};
    return {text.substr(0, space), text.substr(space + 1)};
  }

  // The token that the post-processor puts before a text, and the one that models end with.
  void ReadBos() {
    for (const json& step : Steps(Member(file_, "post_processor"), "processors")) {
      const json& single = Member(step, "single");
      if (!single.is_array() || single.empty()) continue;
      const auto bos = special_.find(Text(Member(Member(single[0], "SpecialToken"), "id")));
      if (bos != special_.end()) tables_.bos = static_cast<int32_t>(bos->second);
    }
    for (const char* name : {"</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>"}) {
      const auto eos = special_.find(name);
      if (eos != special_.end() && tables_.eos < 0) tables_.eos = static_cast<int32_t>(eos->second);
    }
  }

  const json& file_;
  const json& model_;
  PairBpeTables tables_;
  ByteLetters letters_;
  std::unordered_map<std::string, uint64_t> special_;
  std::unordered_map<std::string, int32_t> numbers_;  // as the file writes pieces
  std::vector<uint8_t> taken_;                        // by number: 1 = has a token
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view bytes) {
  if (bytes.size() > kMaxJsonBytes) {
    return Invalid(fmt::format("expected at most {} bytes, found {}", kMaxJsonBytes, bytes.size()));
  }
  const json file = ParseStrictObject(bytes, kMaxDepth);
  if (file.is_discarded() || !file.contains("model")) {
    return Invalid("expected a JSON object with 'model' and no name twice, found something else");
  }
  return Reader(file).Read();
}

}  // namespace espalier::language
