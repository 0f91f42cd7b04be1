#include "common/wire/model_spec/transformer.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"
#include "common/wire/model_spec/families/model_family.h"

namespace espalier::wire {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 31;

// What a spec that is told by its fields has for a context where only its tensors are asked for:
// they do not depend on it.
constexpr int64_t kAnyContext = 1;

class TensorList {
 public:
  explicit TensorList(bool sparse_attention) : sparse_attention_(sparse_attention) {}

  absl::Status Weight(const std::string& name, int64_t outputs, int64_t inputs, bool sparsifiable,
                      int64_t positions = 1) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(name, {outputs, inputs}));
    spec.sparsifiable = sparsifiable;
    tensors_.push_back(
        {.spec = std::move(spec), .role = TensorRole::kWeight, .positions = positions});
    return absl::OkStatus();
  }

  // Nothing where the name is empty.
  absl::Status Vector(const language::StoredTensor& vector, TensorRole role) {
    if (vector.name.empty()) return absl::OkStatus();
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(vector.name, vector.shape));
    tensors_.push_back({.spec = std::move(spec), .role = role});
    return absl::OkStatus();
  }

  // A table whose rows are looked up, and which is an output matrix as well where `multiplied`.
  absl::Status Table(const language::StoredTensor& table, bool looked_up, bool multiplied) {
    if (table.name.empty()) return absl::OkStatus();
    return Weight(table.name, table.shape[0], table.shape[1], false,
                  looked_up && !multiplied ? 0 : 1);
  }

  absl::Status Linear(const std::string& block, const language::LinearLayerSpec& linear) {
    const std::string name = block + linear.name;
    ESPALIER_RETURN_IF_ERROR(Weight(name + ".weight", linear.outputs, linear.inputs,
                                    sparse_attention_ || language::IsFeedForward(linear.role)));
    if (!linear.bias) return absl::OkStatus();
    return Vector({name + ".bias", {linear.outputs}}, TensorRole::kBias);
  }

  std::vector<ModelTensor> Take() { return std::move(tensors_); }

 private:
  bool sparse_attention_;
  std::vector<ModelTensor> tensors_;
};

absl::Status AddBlock(const language::TransformerConfig& config, int64_t block,
                      TensorList& tensors) {
  const std::string prefix = language::BlockPrefix(config, block);
  const std::vector<language::StoredTensor> norms = language::BlockNorms(config, block);
  const size_t half = norms.size() / 2;
  const auto add_norm = [&](size_t first) -> absl::Status {
    ESPALIER_RETURN_IF_ERROR(tensors.Vector(norms[first], TensorRole::kScale));
    return half == 1 ? absl::OkStatus() : tensors.Vector(norms[first + 1], TensorRole::kShift);
  };
  ESPALIER_RETURN_IF_ERROR(add_norm(0));
  bool attention = true;
  for (const language::LinearLayerSpec& linear : language::BlockLinears(config)) {
    if (attention && language::IsFeedForward(linear.role)) {
      attention = false;
      ESPALIER_RETURN_IF_ERROR(add_norm(half));
    }
    ESPALIER_RETURN_IF_ERROR(tensors.Linear(prefix, linear));
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const v1::TransformerSpec& spec) {
  if (spec.heads() < 1 || spec.kv_heads() < 1 || spec.kv_heads() > spec.heads() ||
      spec.hidden() >= kMaxWidth || spec.hidden() % spec.heads() != 0) {
    return base::InvalidArgument(
        "SHAPE_OUT_OF_RANGE",
        fmt::format("expected a hidden width that is a multiple of the heads, found {} and {}",
                    spec.hidden(), spec.heads()));
  }
  return absl::OkStatus();
}

}  // namespace

v1::TransformerSpec ExplicitTransformer(const v1::TransformerSpec& spec) {
  constexpr double kNormEpsilon = 1e-5;
  constexpr double kRopeTheta = 10000;
  constexpr int64_t kMultiple = 16;
  v1::TransformerSpec filled = spec;
  if (!spec.config_json().empty()) return filled;
  if (spec.kv_heads() == 0) filled.set_kv_heads(spec.heads());
  // Widths out of range are refused elsewhere; here they must not overflow.
  if (spec.intermediate() == 0 && spec.hidden() > 0 && spec.hidden() < kMaxWidth) {
    filled.set_intermediate((spec.hidden() * 8 / 3 + kMultiple - 1) / kMultiple * kMultiple);
  }
  if (spec.norm_epsilon() == 0) filled.set_norm_epsilon(kNormEpsilon);
  if (spec.rope_theta() == 0) filled.set_rope_theta(kRopeTheta);
  return filled;
}

absl::StatusOr<language::TransformerConfig> ConfigOf(const v1::TransformerSpec& given,
                                                     int64_t context) {
  if (!given.config_json().empty()) return language::ParseTransformerConfig(given.config_json());
  const v1::TransformerSpec spec = ExplicitTransformer(given);
  language::TransformerConfig config;
  config.architecture = language::Architecture::kLlama;
  config.hidden = spec.hidden();
  config.intermediate = spec.intermediate();
  config.blocks = spec.blocks();
  config.heads = spec.heads();
  config.kv_heads = spec.kv_heads();
  config.head_size = spec.heads() > 0 ? spec.hidden() / spec.heads() : 0;
  config.vocabulary = spec.vocabulary();
  config.context = context;
  config.norm_epsilon = spec.norm_epsilon();
  config.rope_theta = spec.rope_theta();
  config.tied = !spec.untied();
  config.attention_bias = false;
  config.attention_output_bias = false;
  config.mlp_bias = false;
  config.json = language::LlamaConfigJson(config);
  return config;
}

absl::StatusOr<std::vector<ModelTensor>> TransformerTensors(const v1::TransformerSpec& given) {
  if (given.config_json().empty()) {
    ESPALIER_RETURN_IF_ERROR(CheckShape(ExplicitTransformer(given)));
  }
  ESPALIER_ASSIGN_OR_RETURN(const language::TransformerConfig config, ConfigOf(given, kAnyContext));
  if (config.blocks > kMaxBlocks) {
    return base::InvalidArgument(
        "SHAPE_OUT_OF_RANGE",
        fmt::format("expected at most {} blocks, found {}", kMaxBlocks, config.blocks));
  }
  const language::OuterNames outer = language::OuterTensors(config);
  TensorList tensors(!given.dense_attention());
  ESPALIER_RETURN_IF_ERROR(tensors.Table(outer.embedding, true, config.tied));
  ESPALIER_RETURN_IF_ERROR(tensors.Table(outer.positions, true, false));
  for (int64_t block = 0; block < config.blocks; ++block) {
    ESPALIER_RETURN_IF_ERROR(AddBlock(config, block, tensors));
  }
  ESPALIER_RETURN_IF_ERROR(tensors.Vector(outer.final_norm, TensorRole::kScale));
  ESPALIER_RETURN_IF_ERROR(tensors.Vector(outer.final_norm_bias, TensorRole::kShift));
  ESPALIER_RETURN_IF_ERROR(tensors.Table(outer.output, false, true));
  return tensors.Take();
}

int64_t ClassesOf(const v1::ModelSpec& spec) { return FamilyOf(spec).Classes(spec); }

}  // namespace espalier::wire
