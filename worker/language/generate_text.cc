#include "worker/language/generate_text.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/language/tokenizer.h"
#include "worker/language/language_engine.h"

namespace espalier::worker::language {

absl::StatusOr<std::string> GenerateText(const GenerateOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const auto tokenizer, model::LoadTokenizer(options.tokenizer));
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, model::CheckpointReader::Open(options.model));
  std::vector<int32_t> prompt = tokenizer->Encode(options.prompt);
  if (tokenizer->bos() >= 0) prompt.insert(prompt.begin(), tokenizer->bos());
  if (prompt.empty()) {
    return base::InvalidArgument("PROMPT_EMPTY", "expected a prompt of some text, found none");
  }
  ESPALIER_ASSIGN_OR_RETURN(
      const auto engine,
      LanguageEngine::Create(reader->config(), reader->config().context, options.threads));
  ESPALIER_ASSIGN_OR_RETURN(const model::OuterWeights outer, reader->ReadOuter());
  std::vector<std::unique_ptr<LoadedBlock>> blocks;
  for (int64_t b = 0; b < reader->config().blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(model::BlockWeights weights, reader->ReadBlock(b));
    ESPALIER_ASSIGN_OR_RETURN(auto block, engine->Load(std::move(weights)));
    blocks.push_back(std::move(block));
  }
  // Models of stories begin a new one with the begin-of-sequence token.
  const int32_t stop = tokenizer->eos() >= 0 ? tokenizer->eos() : tokenizer->bos();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int32_t> added,
                            engine->Generate(outer, blocks, prompt, options.tokens, stop));
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), added.begin(), added.end());
  return tokenizer->Decode(all);
}

}  // namespace espalier::worker::language
