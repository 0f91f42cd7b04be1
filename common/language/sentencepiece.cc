#include "common/language/sentencepiece.h"

#include <sentencepiece_processor.h>

namespace espalier::language {
namespace {

class Model final : public SentencePieceModel {
 public:
  sentencepiece::SentencePieceProcessor& processor() { return processor_; }
  int size() const override { return processor_.GetPieceSize(); }
  int bos() const override { return processor_.bos_id(); }
  int eos() const override { return processor_.eos_id(); }
  std::vector<int> Encode(std::string_view text) const override {
    return processor_.EncodeAsIds(text);
  }
  std::string Decode(const std::vector<int>& tokens) const override {
    return processor_.DecodeIds(tokens);
  }
  std::string Piece(int token) const override { return processor_.IdToPiece(token); }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<SentencePieceModel> LoadSentencePiece(std::string_view bytes, std::string* error) {
  auto model = std::make_unique<Model>();
  const auto status = model->processor().LoadFromSerializedProto(bytes);
  if (status.ok()) return model;
  *error = status.ToString();
  return nullptr;
}

}  // namespace espalier::language
