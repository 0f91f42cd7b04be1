// One layer of a network as plain values: what the descriptors of the API's layers
// (common/wire/model_spec) say of it, and what the engine builds it from. Nothing is checked here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::tensor {

enum class Activation { kLinear, kRelu, kSigmoid, kTanh, kSoftmax };

// A kind of layer is a word: the name of its file in worker/engine/kinds, and of layers that a job
// can name also that of its field in v1::Layer.
class LayerKind {
 public:
  // `word` outlives all copies: a literal, or the name of a field.
  constexpr explicit LayerKind(std::string_view word) : word_(word) {}
  constexpr std::string_view word() const { return word_; }
  friend constexpr bool operator==(const LayerKind&, const LayerKind&) = default;

  // Kinds that code outside their own files names.
  static const LayerKind kLinear;
  static const LayerKind kConv;
  static const LayerKind kBatchNorm;
  static const LayerKind kMaxPool;
  static const LayerKind kAveragePool;
  static const LayerKind kGlobalAveragePool;
  static const LayerKind kFlatten;
  static const LayerKind kResidual;
  // Of networks whose columns are tokens, see engine::NetworkSpec::sequence.
  static const LayerKind kEmbedding;  // first; token numbers to vectors
  static const LayerKind kPositions;  // adds a learned vector for each place in a sequence
  static const LayerKind kRmsNorm;
  static const LayerKind kLayerNorm;
  static const LayerKind kAttention;   // causal: what the heads see, before their projection
  static const LayerKind kSwiGlu;      // silu(gate · x) ∘ (up · x)
  static const LayerKind kGelu;        // x · Φ(x), without weights
  static const LayerKind kGeluTanh;    // its approximation by tanh
  static const LayerKind kTiedOutput;  // last; logits by the embedding's weights

 private:
  std::string_view word_;
};

inline constexpr LayerKind LayerKind::kLinear{"linear"};
inline constexpr LayerKind LayerKind::kConv{"conv2d"};
inline constexpr LayerKind LayerKind::kBatchNorm{"batch_norm"};
inline constexpr LayerKind LayerKind::kMaxPool{"max_pool"};
inline constexpr LayerKind LayerKind::kAveragePool{"avg_pool"};
inline constexpr LayerKind LayerKind::kGlobalAveragePool{"global_avg_pool"};
inline constexpr LayerKind LayerKind::kFlatten{"flatten"};
inline constexpr LayerKind LayerKind::kResidual{"residual"};
inline constexpr LayerKind LayerKind::kEmbedding{"embedding"};
inline constexpr LayerKind LayerKind::kPositions{"positions"};
inline constexpr LayerKind LayerKind::kRmsNorm{"rms_norm"};
inline constexpr LayerKind LayerKind::kLayerNorm{"layer_norm"};
inline constexpr LayerKind LayerKind::kAttention{"attention"};
inline constexpr LayerKind LayerKind::kSwiGlu{"swiglu"};
inline constexpr LayerKind LayerKind::kGelu{"gelu"};
inline constexpr LayerKind LayerKind::kGeluTanh{"gelu_tanh"};
inline constexpr LayerKind LayerKind::kTiedOutput{"tied_output"};

// Names in LayerSpec::options of kLinear and kConv: kept weights of a group, its size, and the decay
// of others (proto NOfM). Absent: the weights are multiplied as they are.
inline constexpr char kKeptOption[] = "n_of_m.kept";
inline constexpr char kGroupOption[] = "n_of_m.group";
inline constexpr char kDecayOption[] = "n_of_m.decay";

// Which fields count depends on the kind.
struct LayerSpec {
  LayerKind kind = LayerKind::kLinear;
  // Outputs of kLinear, kEmbedding and kSwiGlu, output channels of kConv, head size of kAttention.
  int64_t units = 0;
  Activation activation = Activation::kRelu;  // not of pooling and flatten
  double dropout = 0;                         // kLinear: share of outputs dropped, [0, 1)
  bool dense = false;                         // kLinear, kConv: never sparsified
  bool bias = true;                           // kLinear, kConv, kAttention, kSwiGlu
  int64_t kernel = 1;                         // kConv, kMaxPool, kAveragePool
  int64_t stride = 1;                         // the same
  int64_t padding = 0;                        // kConv
  bool standardize = false;                   // kConv: multiplied by standardised weights
  double momentum = 0.1;                      // kBatchNorm: share of a batch in running statistics
  double epsilon = 1e-5;                      // kBatchNorm, kRmsNorm, kLayerNorm
  int64_t vocabulary = 0;                     // kEmbedding; rows of kPositions
  int64_t position_offset = 0;                // kPositions: row of the first place
  int64_t heads = 0;                          // kAttention
  int64_t kv_heads = 0;                       // kAttention; divides heads
  double theta = 10000;                       // kAttention: base of rotary positions; 0: none
  bool fused = false;                         // kAttention: one weight for query, key and value
  // What a kind has beside these, by the names that its two files agree on.
  std::map<std::string, double> options = {};
  std::vector<LayerSpec> body = {};      // kResidual
  std::vector<LayerSpec> shortcut = {};  // kResidual; empty: the input itself
};

}  // namespace espalier::tensor
