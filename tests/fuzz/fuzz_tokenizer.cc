#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "common/language/architecture/transformer_config.h"
#include "common/language/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: {
      const auto tokenizer = espalier::language::ParseLlama2cTokenizer(bytes);
      // What is encoded comes back.
      if (tokenizer.ok() && (*tokenizer)->Decode((*tokenizer)->Encode(bytes)) != bytes) abort();
      break;
    }
    case 1: {
      const auto tokenizer = espalier::language::ParseSentencePiece(bytes);
      if (tokenizer.ok()) (void)(*tokenizer)->Decode((*tokenizer)->Encode(bytes));
      break;
    }
    case 2: {
      const auto tokenizer = espalier::language::ParseTokenizerJson(bytes);
      if (tokenizer.ok()) (void)(*tokenizer)->Decode((*tokenizer)->Encode(bytes));
      break;
    }
    case 3:
      (void)espalier::language::ParseTokenNpy(bytes, 1 << 16);
      break;
    case 4:
      (void)espalier::language::ParseTokenFile(bytes, 2, 1 << 15);
      break;
    default: {
      const auto config = espalier::language::ParseTransformerConfig(bytes);
      if (config.ok() && config->blocks < 100) (void)espalier::language::AllTensors(*config);
    }
  }
  return 0;
}
