// Transformers that are whole in memory, and trained language models that never are.
#include "common/wire/model_spec/transformer.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/families/families.h"

namespace espalier::wire {
namespace {

// Vocabulary and widths do not depend on the context.
constexpr int64_t kAnyContext = 1;
constexpr double kFlopsPerWeight = 2;

// What both forms of a language model have in common.
class TokenFamily : public ModelFamily {
 public:
  using ModelFamily::ModelFamily;

  bool comes_in_folders() const override { return true; }
  bool HasLargeExamples(const v1::ModelSpec&) const override { return true; }
  std::vector<std::string> OutputNames(const v1::ModelSpec&, const v1::DataSpec&) const override {
    return {};
  }
  bool LargestIsBest(const v1::DataSpec&) const override { return true; }
  absl::Status CheckExample(const v1::Example& example) const override {
    if (!example.tokens().empty()) return absl::OkStatus();
    return base::InvalidArgument(
        "INVALID_EXAMPLES",
        "expected tokens in each example for a language model, found none; "
        "encode the text with the model's tokenizer, of bytes their values");
  }
};

class Transformer : public TokenFamily {
 public:
  Transformer() : TokenFamily("transformer", ModelForm::kTransformer) {}

  bool Offers(ModelNeed need) const override {
    return need != ModelNeed::kLayers && need != ModelNeed::kSynapticFlow &&
           need != ModelNeed::kInputWeights;
  }
  absl::StatusOr<std::vector<ModelTensor>> Tensors(const v1::ModelSpec& spec) const override {
    return TransformerTensors(spec.transformer());
  }
  ExampleCost CostOf(const v1::ModelSpec& spec, const v1::DataSpec& data) const override {
    ExampleCost cost = {.tokens = std::max<int64_t>(1, data.text().context())};
    // A score and its part in the sum, of each value of each query.
    if (const auto config = ConfigOf(spec.transformer(), kAnyContext); config.ok()) {
      cost.pair_products = 2 * kFlopsPerWeight * static_cast<double>(config->query_width()) *
                           static_cast<double>(config->blocks);
    }
    return cost;
  }
  int64_t Classes(const v1::ModelSpec& spec) const override {
    const auto config = ConfigOf(spec.transformer(), kAnyContext);
    return config.ok() ? config->vocabulary : 0;
  }
};

// Its tensors are told by its file. A job's model is empty while it is pruned, and the parts travel
// beside it.
class LanguageModel : public TokenFamily {
 public:
  LanguageModel() : TokenFamily("language-model", ModelForm::kInParts) {}

  bool Offers(ModelNeed need) const override {
    return need == ModelNeed::kPruning || need == ModelNeed::kLoss;
  }
  const ModelFamily& WhenTrained() const override { return TransformerFamily(); }
  absl::StatusOr<std::vector<ModelTensor>> Tensors(const v1::ModelSpec&) const override {
    return std::vector<ModelTensor>();
  }
  ExampleCost CostOf(const v1::ModelSpec&, const v1::DataSpec&) const override { return {}; }
  int64_t Classes(const v1::ModelSpec&) const override { return 0; }
};

}  // namespace

const ModelFamily& TransformerFamily() {
  static const Transformer family;
  return family;
}

const ModelFamily& LanguageModelFamily() {
  static const LanguageModel family;
  return family;
}

}  // namespace espalier::wire
