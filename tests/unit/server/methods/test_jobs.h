// Job specs for the tests of methods.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/methods/program.h"
#include "tests/support/fake_fleet.h"

namespace espalier::server::methods {

inline void AddLayer(v1::JobSpec& spec, int64_t units, v1::Activation activation) {
  v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
  layer.set_units(units);
  layer.set_activation(activation);
}

// 30-20-1-10 (the last weight has one column), 20 rounds.
inline v1::JobSpec SmallJob(const std::string& method) {
  v1::JobSpec spec;
  spec.mutable_model()->set_input_features(30);
  AddLayer(spec, 20, v1::ACTIVATION_RELU);
  AddLayer(spec, 1, v1::ACTIVATION_TANH);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  spec.mutable_data()->set_dataset("digits");
  spec.mutable_data()->mutable_partition()->set_shards(4);
  spec.mutable_method()->set_name(method);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.3);
  spec.mutable_federation()->set_rounds(20);
  return spec;
}

// 1 × height × width → conv → batch norm → …, 20 rounds.
inline v1::JobSpec ImageJob(const std::string& method, int height, int width, int channels) {
  v1::JobSpec spec = SmallJob(method);
  spec.clear_model();
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(height);
  model.mutable_input_image()->set_width(width);
  model.set_input_features(height * width);
  model.add_layers()->mutable_conv2d()->set_channels(channels);
  model.add_layers()->mutable_batch_norm();
  return spec;
}

// 1 × 8 × 8 → conv 4 → batch norm → linear 20 → linear 10: three sparsifiable tensors, 20 rounds.
inline v1::JobSpec ConvJob(const std::string& method) {
  v1::JobSpec spec = ImageJob(method, 8, 8, 4);
  AddLayer(spec, 20, v1::ACTIVATION_RELU);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  return spec;
}

inline void SetDouble(v1::JobSpec& spec, const std::string& name, double value) {
  (*spec.mutable_method()->mutable_parameters())[name].set_double_value(value);
}
inline void SetInt(v1::JobSpec& spec, const std::string& name, int64_t value) {
  (*spec.mutable_method()->mutable_parameters())[name].set_int_value(value);
}
inline void SetWord(v1::JobSpec& spec, const std::string& name, const std::string& value) {
  (*spec.mutable_method()->mutable_parameters())[name].set_string_value(value);
}

inline std::unique_ptr<Program> Make(const v1::JobSpec& spec) {
  auto program = MethodRegistry::Builtin().Make(spec);
  EXPECT_TRUE(program.ok()) << program.status();
  return std::move(program).value();
}

inline std::vector<config::Violation> Violations(const v1::JobSpec& spec) {
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  return violations;
}

// The first field that is refused; "" when none is.
inline std::string RefusedField(const v1::JobSpec& spec) {
  const std::vector<config::Violation> found = Violations(spec);
  return found.empty() ? "" : found[0].field;
}

// A whole job by participants of their own, without workers.
inline test::JobTrace Trace(const v1::JobSpec& spec, int participants = 3) {
  return test::RunJob(*Make(spec), test::FakeFleet(participants)).value();
}

// `density` where the method has such a parameter.
inline void SetDensityIfDeclared(v1::JobSpec& spec, double density) {
  const MethodRegistry registry = MethodRegistry::Builtin();
  for (const config::Parameter& parameter : registry.Find(spec.method().name())->parameters) {
    if (parameter.name == "density") SetDouble(spec, "density", density);
  }
}

// The structure of one weight (rows × cols) and its dense bias.
inline std::shared_ptr<const tensor::ModelTopology> OneLayer(
    std::shared_ptr<const tensor::ModelLayout> layout, const std::vector<int64_t>& positions) {
  auto topology = tensor::Topology::FromPositions((*layout)[0].rows, (*layout)[0].cols, positions);
  auto model = tensor::ModelTopology::Create(
      layout, {std::make_shared<const tensor::Topology>(std::move(topology).value()), nullptr});
  return std::make_shared<const tensor::ModelTopology>(std::move(model).value());
}

}  // namespace espalier::server::methods
