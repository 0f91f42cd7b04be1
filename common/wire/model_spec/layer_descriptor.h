// LayerDescriptor: everything that both sides know of one kind of layer, which a file of kinds/
// says. All other code walks layers and asks their descriptors.
//
// To add a kind see kinds/README.md.
// Ownership:   descriptors are constants that live as long as the program.
// Threading:   pure functions. Determinism: equal layers give equal answers on every machine.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/layer_spec.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/range_report.h"
#include "common/wire/model_spec/shapes.h"
#include "espalier/v1/model.pb.h"

namespace espalier::wire {

using Layers = google::protobuf::RepeatedPtrField<v1::Layer>;

// A tensor of a layer. Its first axis are rows, all others together columns.
struct LayerTensor {
  std::string field;           // of its name: layers.<i>.<field>
  std::vector<int64_t> shape;  // not checked
  TensorRole role = TensorRole::kWeight;
  bool sparsifiable = false;
  // Initial values and cost, as in ModelTensor.
  v1::Initializer initializer = v1::INITIALIZER_UNSPECIFIED;
  int64_t positions = 0;
  double gain = 1;
  bool transformed = false;
  // Whether its rows belong to the layer's output channels, and its columns to the input channels:
  // the same number to each, in their order.
  bool rows_of_outputs = true;
  bool columns_of_inputs = false;
};

// Layers inside of a layer, which are given its input.
struct Branch {
  std::string field;  // of the message, and of the names of their tensors
  const Layers* layers = nullptr;
};

// Where the channels of a layer's output come from.
enum class ChannelFlow {
  kNew,   // each is made of all inputs
  kKept,  // each is made of the same channel of the input; of it may also become plain features,
          // which lie next to each other
  kSum,   // each is the sum of the same channel of all branches; of an empty one of the input
};

// Where a layer stands, which decides what it may be.
struct LayerPlace {
  bool last = false;
  bool in_branch = false;
};

class LayerDescriptor {
 public:
  explicit LayerDescriptor(v1::Layer::KindCase number) : number_(number) {}
  virtual ~LayerDescriptor() = default;

  v1::Layer::KindCase number() const { return number_; }
  // The name of the kind's field in v1::Layer: "conv2d".
  const std::string& word() const;

  // In all that follow, `layer` is of this kind.

  // Shape of the output. Defaults count where fields are unset. Errors: LAYER_SHAPE.
  virtual absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer,
                                                   const FeatureShape& input) const = 0;
  // In layout order; `output` is OutputShape() of `input`. Tensors of branches come before them.
  virtual std::vector<LayerTensor> Tensors(const v1::Layer&, const FeatureShape& /*input*/,
                                           const FeatureShape& /*output*/) const {
    return {};
  }
  virtual ChannelFlow channel_flow() const = 0;
  virtual std::vector<Branch> Branches(const v1::Layer&) const { return {}; }

  // Sets what is unset, in branches too.
  virtual void ApplyDefaults(v1::Layer&) const {}
  // Reports what is out of range, branches left out. Whether the shape can be told.
  virtual bool CheckRanges(const v1::Layer&, const LayerPlace&, const RangeReport&) const {
    return true;
  }
  // Whether it may give the outputs of the model, and be in a branch of another layer.
  virtual bool may_be_last() const { return false; }
  virtual bool may_be_in_branch() const { return true; }
  // Whether training divides by a deviation over the batch, of which a single value has none.
  virtual bool normalizes_batches() const { return false; }

  // Writes the layer's options for the engine, but for `spec.kind`, which is word().
  virtual void Describe(const v1::Layer&, tensor::LayerSpec& /*spec*/) const {}

 private:
  v1::Layer::KindCase number_;
};

// All kinds, in the order of their files.
std::span<const LayerDescriptor* const> LayerKinds();

// Errors: InvalidArgument with reason UNKNOWN_LAYER for a layer without a kind, as a newer program
// may send.
absl::StatusOr<const LayerDescriptor*> KindOf(const v1::Layer& layer);

// Visits each layer and then those inside of it; unknown kinds have none.
void ForEachLayer(Layers& layers, const std::function<void(v1::Layer&)>& visit);
// Whether there is such a layer, here or inside of another.
bool AnyLayer(const Layers& layers, const std::function<bool(const v1::Layer&)>& is_such);

// Defaults of all layers; unknown kinds stay as they are.
void ApplyLayerDefaults(Layers& layers);

// The layers for the engine; of an unknown kind with an empty word, which the engine refuses.
std::vector<tensor::LayerSpec> DescribeLayers(const Layers& layers);

// What kinds share.

// An activation that is applied value by value.
void CheckElementwise(v1::Activation activation, const RangeReport& in);
// The pattern of layers that have one, which methods set and jobs leave out.
void DescribePattern(const v1::NOfM& pattern, tensor::LayerSpec& spec);
void CheckNoPattern(bool given, const RangeReport& in);
tensor::Activation ActivationOf(v1::Activation activation);
// The default of every kind that has an activation.
template <typename LayerOfKind>
void SetDefaultActivation(LayerOfKind& layer) {
  if (layer.activation() == v1::ACTIVATION_UNSPECIFIED) {
    layer.set_activation(v1::ACTIVATION_LINEAR);
  }
}

}  // namespace espalier::wire
