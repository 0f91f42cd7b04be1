// Tokenizer: text to token numbers and back.
//
// Kinds:       bytes (256 tokens, one for each byte); tokenizer.bin of llama2.c (scores and pieces,
//              SentencePiece's BPE with byte fallback); tokenizer.model of SentencePiece where its
//              type is BPE and it does not normalise, as LLaMA's; tokenizer.json of Hugging Face
//              where its type is BPE on bytes (GPT-2, LLaMA 3) or with byte fallback (LLaMA 2).
// Round trip:  Decode(Encode(text)) == text for any bytes when every byte has a token, as in all of
//              these; except that a tokenizer.json may say (Metaspace) that only texts without a
//              space in front get one, which then is lost.
// Threading:   const methods may be called from several threads.
// Errors:      InvalidArgument TOKENIZER_INVALID names file, expected, found. A tokenizer from
//              outside is untrusted: sizes are checked before they are used.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::language {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Number of tokens; Encode() gives numbers below it.
  virtual int64_t size() const = 0;
  // Without begin-of-sequence and end-of-sequence tokens.
  virtual std::vector<int32_t> Encode(std::string_view text) const = 0;
  // The text of tokens that Encode() gives. Numbers out of range and control tokens give nothing.
  // Some kinds begin every text with a space of their own; it is taken away again unless the
  // tokens continue an earlier text.
  virtual std::string Decode(std::span<const int32_t> tokens, bool continues = false) const = 0;
  // −1: none.
  virtual int32_t bos() const { return -1; }
  virtual int32_t eos() const { return -1; }
};

// Largest tokenizer file that is read.
inline constexpr uint64_t kMaxTokenizerBytes = 256 << 20;

std::unique_ptr<Tokenizer> MakeByteTokenizer();
// The bytes of llama2.c's tokenizer.bin: int32 longest piece, then for each token float32 score,
// int32 length and the piece.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseLlama2cTokenizer(std::string_view bytes);
// The bytes of a SentencePiece tokenizer.model.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePiece(std::string_view bytes);
// The bytes of a tokenizer.json.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view bytes);

// One of these, by the file's name.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(std::string_view file_name,
                                                          std::string_view bytes);
// The one among a folder's files that is a tokenizer: tokenizer.model, tokenizer.json,
// tokenizer.bin or tok<N>.bin, in this order; "" when there is none.
std::string TokenizerFileAmong(std::span<const std::string> names);
// The tokenizer of a folder, or in a file, or "bytes". Errors: also NotFound TOKENIZER_NOT_FOUND.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);

// Tokens from the bytes of a pre-tokenised file. Errors: InvalidArgument TOKENS_INVALID for a size
// that is no multiple of `bytes_per_token` (2 or 4, little-endian) and for tokens of `vocabulary`
// or more.
absl::StatusOr<std::vector<int32_t>> ParseTokenFile(std::string_view bytes, int bytes_per_token,
                                                    int64_t vocabulary);
// The same for a .npy of one dimension with elements u1, u2, u4, i2, i4 or i8.
absl::StatusOr<std::vector<int32_t>> ParseTokenNpy(std::string_view bytes, int64_t vocabulary);

}  // namespace espalier::language
