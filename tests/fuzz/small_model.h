// The model of the targets that decode what is sent about one: a sparse weight, a dense one that
// may become sparse, a bias, and running statistics.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/check.h"
#include "common/tensor/model.h"

namespace espalier::fuzz {

inline std::shared_ptr<const tensor::ModelTopology> MakeSmallStructure() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {4, 6}, 4, 6, true});
  layout->push_back({"layers.0.bias", {4}, 4, 1, false});
  layout->push_back({"layers.1.weight", {3, 4}, 3, 4, true});
  layout->push_back({"layers.2.running_var", {3}, 3, 1, false, true});
  auto sparse = tensor::Topology::FromPositions(4, 6, std::vector<int64_t>{0, 3, 7, 8, 14, 20, 23});
  ESPALIER_CHECK(sparse.ok(), "the positions are within the tensor");
  auto structure = tensor::ModelTopology::Create(
      layout,
      {std::make_shared<const tensor::Topology>(*std::move(sparse)), nullptr, nullptr, nullptr});
  ESPALIER_CHECK(structure.ok(), "the structure fits the layout");
  return std::make_shared<const tensor::ModelTopology>(*std::move(structure));
}

inline const std::shared_ptr<const tensor::ModelTopology>& SmallStructure() {
  static const auto structure = MakeSmallStructure();
  return structure;
}

}  // namespace espalier::fuzz
