// tokenizer.model of SentencePiece, read without its library: Debian's build of it exports symbols
// of a protocol buffer runtime of its own, which stops a program that also has Debian's.
// Format: sentencepiece_model.proto (github.com/google/sentencepiece).
#include <fmt/format.h>
#include <google/protobuf/unknown_field_set.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/language/bpe_tokenizer.h"
#include "common/language/space_symbol.h"

namespace espalier::language {
namespace {

using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

constexpr uint64_t kBpe = 2;

// Field numbers of the three messages that matter.
enum ModelField { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField { kText = 1, kScore = 2, kType = 3 };
enum TrainerField { kModelType = 3, kUnkId = 40, kBosId = 41, kEosId = 42 };
enum NormalizerField { kCharsMap = 2, kDummyPrefix = 3, kRemoveSpaces = 4, kEscapeSpaces = 5 };
enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 5, kUnused = 6 };

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("TOKENIZER_INVALID", "tokenizer.model: " + what);
}

const UnknownField* Find(const UnknownFieldSet& fields, int number, UnknownField::Type type) {
  const UnknownField* found = nullptr;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    if (field.number() == number && field.type() == type) found = &field;
  }
  return found;
}

uint64_t Number(const UnknownFieldSet& fields, int number, uint64_t fallback) {
  const UnknownField* field = Find(fields, number, UnknownField::TYPE_VARINT);
  return field == nullptr ? fallback : field->varint();
}

std::string Text(const UnknownFieldSet& fields, int number) {
  const UnknownField* field = Find(fields, number, UnknownField::TYPE_LENGTH_DELIMITED);
  return field == nullptr ? "" : field->length_delimited();
}

// 0x41 of "<0x41>".
std::optional<char> ByteOf(const std::string& text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  char* end = nullptr;
  const std::string digits = text.substr(3, 2);
  const auto byte = std::strtoul(digits.c_str(), &end, 16);
  if (*end != '\0') return std::nullopt;
  return static_cast<char>(byte);
}

absl::StatusOr<BpePiece> ParsePiece(const std::string& bytes, size_t number) {
  UnknownFieldSet fields;
  if (!fields.ParseFromString(bytes)) return Invalid(fmt::format("piece {} is damaged", number));
  BpePiece piece;
  piece.text = Text(fields, kText);
  const UnknownField* score = Find(fields, kScore, UnknownField::TYPE_FIXED32);
  piece.score = score == nullptr ? 0.0f : std::bit_cast<float>(score->fixed32());
  if (piece.text.empty() || !std::isfinite(piece.score)) {
    return Invalid(fmt::format("expected piece {} with a text and a finite score, found '{}', {}",
                               number, piece.text, piece.score));
  }
  switch (Number(fields, kType, kNormal)) {
    case kNormal:
      piece.text = WithSpaces(std::move(piece.text));
      break;
    case kByte: {
      const std::optional<char> byte = ByteOf(piece.text);
      if (!byte) {
        return Invalid(fmt::format("expected byte piece {} to be like <0x41>, found '{}'", number,
                                   piece.text));
      }
      piece.kind = BpePiece::Kind::kByte;
      piece.text = std::string(1, *byte);
      break;
    }
    case kUnknown:
    case kControl:
    case kUnused:
      piece.kind = BpePiece::Kind::kControl;
      break;
    default:
      return Invalid(
          fmt::format("piece {} ('{}') is user-defined, which is not computed; tokenise "
                      "the text beforehand",
                      number, piece.text));
  }
  return piece;
}

// A token number, −1 when it is out of range.
int32_t Token(const UnknownFieldSet& fields, int number, uint64_t fallback, size_t size) {
  const uint64_t token = Number(fields, number, fallback);
  return token < size ? static_cast<int32_t>(token) : -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePiece(std::string_view bytes) {
  UnknownFieldSet model;
  UnknownFieldSet trainer;
  UnknownFieldSet normalizer;
  if (bytes.empty() || !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !trainer.ParseFromString(Text(model, kTrainer)) ||
      !normalizer.ParseFromString(Text(model, kNormalizer))) {
    return Invalid("expected a model of SentencePiece, found something else");
  }
  if (Number(trainer, kModelType, 1) != kBpe || !Text(normalizer, kCharsMap).empty() ||
      Number(normalizer, kRemoveSpaces, 1) != 0 || Number(normalizer, kEscapeSpaces, 1) == 0) {
    return Invalid(
        "expected a model of type BPE that neither normalises characters nor removes spaces, as "
        "LLaMA's, found another; tokenise the text beforehand");
  }
  std::vector<BpePiece> pieces;
  for (int i = 0; i < model.field_count(); ++i) {
    const UnknownField& field = model.field(i);
    if (field.number() != kPieces || field.type() != UnknownField::TYPE_LENGTH_DELIMITED) continue;
    ESPALIER_ASSIGN_OR_RETURN(BpePiece piece, ParsePiece(field.length_delimited(), pieces.size()));
    pieces.push_back(std::move(piece));
  }
  const int32_t unknown = Token(trainer, kUnkId, 0, pieces.size());
  if (unknown < 0) return Invalid("expected pieces with one for the unknown, found none");
  const BpeTokenizer::Special special = {.bos = Token(trainer, kBosId, 1, pieces.size()),
                                         .eos = Token(trainer, kEosId, 2, pieces.size()),
                                         .unknown = unknown,
                                         .leading_space = Number(normalizer, kDummyPrefix, 1) != 0};
  return std::make_unique<BpeTokenizer>(std::move(pieces), special);
}

}  // namespace espalier::language
