// SentencePiece's processor without its header, which declares an absl::string_view of its own and
// cannot be included together with Abseil. Internal to this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::language {

class SentencePieceModel {
 public:
  virtual ~SentencePieceModel() = default;
  virtual int size() const = 0;
  virtual int bos() const = 0;
  virtual int eos() const = 0;
  virtual std::vector<int> Encode(std::string_view text) const = 0;
  virtual std::string Decode(const std::vector<int>& tokens) const = 0;
  virtual std::string Piece(int token) const = 0;
};

// Null when `bytes` are no model; `error` then says why.
std::unique_ptr<SentencePieceModel> LoadSentencePiece(std::string_view bytes, std::string* error);

}  // namespace espalier::language
