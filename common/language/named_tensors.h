// NamedTensors: the tensors of a checkpoint one by one, by the names that a model has in training
// (common/wire/model_spec/transformer.h) and in its shapes: matrices are outputs × inputs.
//
// Memory:      what Read() returns.
// Ownership:   the reader is borrowed.
// Threading:   const methods may be called from several threads.
// Errors:      those of CheckpointReader.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/checkpoint_reader.h"

namespace espalier::language {

class NamedTensors {
 public:
  explicit NamedTensors(const CheckpointReader& reader);

  struct Values {
    // Null: dense, `values` is row-major. Otherwise values in topology order.
    std::shared_ptr<const tensor::Topology> topology;
    std::vector<float> values;
  };
  // What the checkpoint stores under that name.
  absl::StatusOr<Values> Read(const std::string& name) const;
  // How many values that are, from the file's header alone. Zeros of a dense tensor count.
  int64_t Stored(const std::string& name) const;

 private:
  const CheckpointReader& reader_;
  std::map<std::string, std::pair<int64_t, size_t>> linears_;  // block and place in BlockLinears()
};

}  // namespace espalier::language
