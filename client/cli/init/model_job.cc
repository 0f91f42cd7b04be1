// A trained language model in Hugging Face's layout: pruned to half of its weights.
#include <algorithm>
#include <filesystem>

#include "client/cli/format.h"
#include "client/cli/init/draft.h"
#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "client/json/json.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/tokenizer.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

constexpr int64_t kMostContext = 256;
constexpr int64_t kBytes = 256;

// The tokenizer among the files of a folder; "" when there is none.
absl::StatusOr<std::string> TokenizerIn(const std::string& folder) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            io::PosixFileSystem().List(folder));
  return language::TokenizerFileAmong(names);
}

absl::Status NeedsText(const Source& source) {
  return base::InvalidArgument(
      "USAGE",
      fmt::format("expected --text PATH, because {} is a trained language model, and a text tells "
                  "which of its weights matter; name a .txt or .jsonl file in a folder of its own, "
                  "of the kind that the model will read: espalier init {} --text data/my-text",
                  config::Quoted(source.name), ShellWord(source.folder)));
}

// The text's folder needs the model's tokenizer.
absl::Status AddTokenizer(const Source& model, const Source& text, int64_t vocabulary, Draft& draft,
                          std::string& kind) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string beside_text, TokenizerIn(text.folder));
  kind = "file";
  if (!beside_text.empty()) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const std::string beside_model, TokenizerIn(model.folder));
  if (!beside_model.empty()) {
    draft.before.push_back({fmt::format("cp {} {}/", ShellWord(model.folder + "/" + beside_model),
                                        ShellWord(text.folder)),
                            "workers read the text with the model's tokenizer"});
    return absl::OkStatus();
  }
  kind = "bytes";
  if (vocabulary <= kBytes) return absl::OkStatus();
  return Unusable(
      fmt::format("expected the model's tokenizer in {} or beside the text in {}, found none; put "
                  "tokenizer.json, tokenizer.model or tokenizer.bin into one of them",
                  config::Quoted(model.folder), config::Quoted(text.folder)));
}

absl::StatusOr<std::string> MethodSection(const std::string& wished) {
  const std::vector<std::string> fits = {"wanda", "dsnot", "sparsegpt", "magnitude"};
  const std::string name = wished.empty() ? fits.front() : wished;
  if (std::find(fits.begin(), fits.end(), name) == fits.end()) {
    return base::InvalidArgument(
        "USAGE", fmt::format("--method: expected one of {} for a trained model, found {}",
                             config::Joined(fits, ", "), config::Quoted(name)));
  }
  return fmt::format(
      "method:\n"
      "  name: {}\n"
      "  parameters: {{sparsity: 0.5}}  # the share of each layer's weights that goes\n"
      "  # wanda weighs a weight by its input; dsnot exchanges weights afterwards; sparsegpt "
      "changes\n"
      "  # those that stay, and takes longer; magnitude needs no text, and loses most.\n"
      "  # parameters: {{pattern: \"2:4\"}}  # two of every four, which some processors compute "
      "faster",
      name);
}

absl::StatusOr<v1::DatasetInfo> LookAtText(const Source& text, int64_t context, bool has_tokenizer,
                                           const std::string& field) {
  v1::DataSpec view;
  view.mutable_text()->set_context(context);
  view.mutable_text()->set_field(field);
  if (has_tokenizer) view.mutable_text()->set_tokenizer("file");
  ESPALIER_ASSIGN_OR_RETURN(const Look look, LookAt(text.folder)(&view));
  if (!look.info.problem().empty()) return Unusable(look.info.problem());
  if (look.info.train_bytes() == 0) return TooLarge();
  return look.info;
}

}  // namespace

absl::StatusOr<Draft> ModelJob(const Source& source, const Wishes& wishes) {
  if (wishes.text.empty()) return NeedsText(source);
  ESPALIER_ASSIGN_OR_RETURN(const auto model, language::CheckpointReader::Open(source.folder));
  const language::TransformerConfig& config = model->config();
  ESPALIER_ASSIGN_OR_RETURN(const Source text, FindSource(wishes.text));
  if (text.is_model) {
    return Unusable("expected a text at --text, found a trained model; name a .txt or .jsonl file");
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string method, MethodSection(wishes.method));
  Draft draft;
  std::string tokenizer;
  ESPALIER_RETURN_IF_ERROR(AddTokenizer(source, text, config.vocabulary, draft, tokenizer));
  const int64_t context = std::min(config.context, kMostContext);
  ESPALIER_ASSIGN_OR_RETURN(
      draft.dataset,
      LookAtText(text, context, draft.before.empty() && tokenizer == "file", wishes.field));
  const v1::DatasetInfo& info = draft.dataset;
  draft.data_root = text.root;
  draft.rounds = config.blocks;
  draft.up = "--models " + ShellWord(source.root);
  draft.findings = {
      fmt::format("It is a trained language model of {} with a vocabulary of {}.",
                  Counted(config.blocks, "block"), Counted(config.vocabulary, "token")),
      fmt::format("The text '{}' ({}) tells which weights matter; it stays with the workers, which "
                  "send sums over what the model computes from it.",
                  text.name, HumanBytes(info.train_bytes())),
      "Half of the weights of each layer will go; perplexity is shown before and after, and less "
      "is "
      "better."};
  draft.file = fmt::format(
      "{}\ndisplay_name: {} at density 0.5\n"
      "model:\n"
      "  pretrained: {}  # a folder under the coordinator's --models\n"
      "data:\n"
      "  dataset: {}\n"
      "  text: {{context: {}, tokenizer: {}{}}}  # the model reads at most {} tokens at once\n"
      "{}"
      "  train_limit: 128  # examples that weights are judged by; papers take as many\n"
      "  test_limit: 256  # examples for the perplexity; 0 = all\n"
      "  partition: {{kind: iid, shards: {}}}\n"
      "  # partition: {{kind: local}}  # every site has a text of its own under this name\n"
      "{}\n"
      "seed: 1\n",
      Heading(source, "a trained language model, pruned to half of its weights"), source.name,
      YamlName(source.name), YamlName(text.name), context, tokenizer,
      wishes.field.empty() ? "" : ", field: " + client::QuotedText(wishes.field), config.context,
      HoldOutLine(info, 0.2), wishes.workers, method);
  const std::string checkpoint = fmt::format("{}-{}", base::IdLike(source.name), draft.rounds);
  const std::string use = ShellWord(checkpoint);
  draft.afterwards.push_back({fmt::format("espalier checkpoint get {} --format hf -O {}-half", use,
                                          base::IdLike(source.name)),
                              "a folder that `transformers` loads"});
  return draft;
}

}  // namespace espalier::cli::init
