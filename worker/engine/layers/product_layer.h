// ProductLayer: activation(W · x + bias) with dropout, where the product is a matrix's or a
// convolution's, sparse or dense.
#pragma once

#include <memory>
#include <vector>

#include "worker/engine/dropout.h"
#include "worker/engine/layers/layer.h"
#include "worker/engine/layers/weight_transform.h"

namespace espalier::worker::engine {

// A linear layer is a convolution of single positions as far as shapes are concerned.
ConvShape ProductShape(const LayerSpec& spec, const MapShape& input);

class ProductLayer final : public Layer {
 public:
  // `index` keys the dropout, `input_gradient` says whether Backward() will be asked for it.
  // Errors: NETWORK_SPEC, SHAPE_MISMATCH, those of the backend.
  static absl::StatusOr<std::unique_ptr<ProductLayer>> Create(const LayerSpec& spec,
                                                              const MapShape& input, size_t index,
                                                              bool input_gradient,
                                                              BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kWeightGradient; }
  void CollectProducts(std::vector<const ProductLayer*>& products) const override {
    products.push_back(this);
  }

  // The output, for a layer that has this one as a part and goes on in place. For a linear
  // activation without dropout, whose gradient does not need it.
  float* output_in_place() { return mutable_output(); }

  // The loss has been through this layer's activation: Backward() gets the gradient with respect to
  // the preactivation.
  void set_delta_is_of_preactivation() { delta_is_of_preactivation_ = true; }

  Activation activation() const { return spec_.activation; }
  size_t weight_tensor() const { return weight_tensor_; }
  int64_t input_features() const { return input_features_; }
  const ConvShape& geometry() const { return geometry_; }
  // Gradient at all positions of the weight, see WeightMatrix::FullGradient(). `values` are the
  // model's, unchanged since the last Forward().
  void FullGradient(const float* values, const float* delta, const float* input, int64_t stride,
                    int64_t width, const TileSink& sink) const;

 private:
  ProductLayer(const LayerSpec& spec, const MapShape& input, const MapShape& output, size_t index,
               BuildContext& context);
  // What the input is multiplied by.
  const float* Weights(const Pass& pass) const {
    return transform_ ? transform_->effective() : pass.values + weight_offset_;
  }
  void WeightGradient(const Pass& pass, const float* input, const float* delta,
                      const BackwardTarget& target);
  // Takes the transform's own tensors, which lie next to each other.
  absl::Status AddTransform(const ConvShape& shape, BuildContext& context);
  absl::Status AddTensors(const ConvShape& shape, bool input_gradient, BuildContext& context);
  OutputUse own_use() const override { return UseOf(spec_.activation, dropout_); }
  void DrawDropout(const Pass& pass);
  void ToPreactivation(const Pass& pass, float* delta);

  LayerSpec spec_;
  ConvShape geometry_;
  size_t index_;
  int64_t input_features_;
  size_t weight_tensor_ = 0;
  int64_t weight_offset_ = 0;
  int64_t stored_ = 0;      // weights
  int64_t own_offset_ = 0;  // of transform_'s tensors
  int64_t own_size_ = 0;
  int64_t bias_offset_ = 0;  // meaningful when spec_.bias
  bool delta_is_of_preactivation_ = false;
  std::unique_ptr<WeightMatrix> weight_;
  std::unique_ptr<WeightTransform> transform_;  // null: the weights are multiplied as they are
  DropoutMask dropout_;
};

}  // namespace espalier::worker::engine
