// Text in JSON lines, as it is or compressed: tokens are tokens, a document for each line, and the
// same every time.
#include <cstdint>
#include <string>

#include "common/language/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/memory_file.h"
#include "worker/data/json_lines.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using espalier::fuzz::MemoryStream;
  using espalier::fuzz::Require;
  namespace data = espalier::worker::data;
  espalier::fuzz::Input input(bytes, size);
  const std::string field = input.Choice(2) == 0 ? "text" : std::string(input.Part());
  static const auto tokenizer = espalier::language::MakeByteTokenizer();
  data::ByteStream stream = MemoryStream(input.Rest());
  const auto tokens = data::ReadJsonLines(stream, field, *tokenizer);
  data::ByteStream second = MemoryStream(input.Rest());
  const auto again = data::ReadJsonLines(second, field, *tokenizer);
  Require(tokens.ok() == again.ok() && (!tokens.ok() || *tokens == *again), "text is read alike");
  if (!tokens.ok()) return 0;
  Require(!tokens->empty(), "there is a document");
  for (const int32_t token : *tokens) {
    Require(token >= 0 && token < tokenizer->size(), "tokens are tokens");
  }
  return 0;
}
