#include "common/wire/model_spec/transformer.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"

namespace espalier::wire {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 31;

class TensorList {
 public:
  absl::Status Weight(const std::string& name, int64_t outputs, int64_t inputs, bool sparsifiable,
                      int64_t positions = 1) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(name + ".weight", {outputs, inputs}));
    spec.sparsifiable = sparsifiable;
    tensors_.push_back(
        {.spec = std::move(spec), .role = TensorRole::kWeight, .positions = positions});
    return absl::OkStatus();
  }

  absl::Status Norm(const std::string& name, int64_t size) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(name + ".weight", {size}));
    tensors_.push_back({.spec = std::move(spec), .role = TensorRole::kScale});
    return absl::OkStatus();
  }

  std::vector<ModelTensor> Take() { return std::move(tensors_); }

 private:
  std::vector<ModelTensor> tensors_;
};

absl::Status AddBlock(const v1::TransformerSpec& spec, const std::string& block,
                      TensorList& tensors) {
  const int64_t hidden = spec.hidden();
  const int64_t kv = hidden / spec.heads() * spec.kv_heads();
  const bool attention = !spec.dense_attention();
  ESPALIER_RETURN_IF_ERROR(tensors.Norm(block + "input_layernorm", hidden));
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "self_attn.q_proj", hidden, hidden, attention));
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "self_attn.k_proj", kv, hidden, attention));
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "self_attn.v_proj", kv, hidden, attention));
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "self_attn.o_proj", hidden, hidden, attention));
  ESPALIER_RETURN_IF_ERROR(tensors.Norm(block + "post_attention_layernorm", hidden));
  const int64_t inner = spec.intermediate();
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "mlp.gate_proj", inner, hidden, true));
  ESPALIER_RETURN_IF_ERROR(tensors.Weight(block + "mlp.up_proj", inner, hidden, true));
  return tensors.Weight(block + "mlp.down_proj", hidden, inner, true);
}

}  // namespace

v1::TransformerSpec ExplicitTransformer(const v1::TransformerSpec& spec) {
  constexpr double kNormEpsilon = 1e-5;
  constexpr double kRopeTheta = 10000;
  constexpr int64_t kMultiple = 16;
  v1::TransformerSpec filled = spec;
  if (spec.kv_heads() == 0) filled.set_kv_heads(spec.heads());
  // Widths out of range are refused elsewhere; here they must not overflow.
  if (spec.intermediate() == 0 && spec.hidden() > 0 && spec.hidden() < kMaxWidth) {
    filled.set_intermediate((spec.hidden() * 8 / 3 + kMultiple - 1) / kMultiple * kMultiple);
  }
  if (spec.norm_epsilon() == 0) filled.set_norm_epsilon(kNormEpsilon);
  if (spec.rope_theta() == 0) filled.set_rope_theta(kRopeTheta);
  return filled;
}

absl::StatusOr<std::vector<ModelTensor>> TransformerTensors(const v1::TransformerSpec& given) {
  const v1::TransformerSpec spec = ExplicitTransformer(given);
  if (spec.heads() < 1 || spec.kv_heads() < 1 || spec.kv_heads() > spec.heads() ||
      spec.hidden() >= kMaxWidth || spec.hidden() % spec.heads() != 0) {
    return base::InvalidArgument(
        "SHAPE_OUT_OF_RANGE",
        fmt::format("expected a hidden width that is a multiple of the heads, found {} and {}",
                    spec.hidden(), spec.heads()));
  }
  if (spec.blocks() > kMaxBlocks) {
    return base::InvalidArgument(
        "SHAPE_OUT_OF_RANGE",
        fmt::format("expected at most {} blocks, found {}", kMaxBlocks, spec.blocks()));
  }
  TensorList tensors;
  // Rows are looked up; unless there is an output matrix, they are that as well.
  ESPALIER_RETURN_IF_ERROR(tensors.Weight("model.embed_tokens", spec.vocabulary(), spec.hidden(),
                                          false, spec.untied() ? 0 : 1));
  for (int32_t block = 0; block < spec.blocks(); ++block) {
    ESPALIER_RETURN_IF_ERROR(AddBlock(spec, fmt::format("model.layers.{}.", block), tensors));
  }
  ESPALIER_RETURN_IF_ERROR(tensors.Norm("model.norm", spec.hidden()));
  if (spec.untied()) {
    ESPALIER_RETURN_IF_ERROR(tensors.Weight("lm_head", spec.vocabulary(), spec.hidden(), false));
  }
  return tensors.Take();
}

int64_t ClassesOf(const v1::ModelSpec& spec) {
  if (spec.has_transformer()) return spec.transformer().vocabulary();
  return spec.layers().empty() ? 0 : spec.layers(spec.layers_size() - 1).linear().units();
}

}  // namespace espalier::wire
