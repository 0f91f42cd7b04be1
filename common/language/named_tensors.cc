#include "common/language/named_tensors.h"

#include "common/base/status.h"
#include "common/language/sparse_form.h"

namespace espalier::language {

NamedTensors::NamedTensors(const CheckpointReader& reader) : reader_(reader) {
  const std::vector<LinearLayerSpec> linears = BlockLinears(reader.config());
  for (int64_t block = 0; block < reader.config().blocks; ++block) {
    for (size_t i = 0; i < linears.size(); ++i) {
      const std::string name = BlockPrefix(reader.config(), block) + linears[i].name + ".weight";
      linears_[name] = {block, i};
    }
  }
}

absl::StatusOr<NamedTensors::Values> NamedTensors::Read(const std::string& name) const {
  Values read;
  const auto linear = linears_.find(name);
  if (linear == linears_.end()) {
    ESPALIER_ASSIGN_OR_RETURN(read.values, reader_.ReadTensor(name));
    return read;
  }
  ESPALIER_ASSIGN_OR_RETURN(LinearWeights weights,
                            reader_.ReadLinear(linear->second.first, linear->second.second));
  read.topology = std::move(weights.topology);
  read.values = std::move(weights.values);
  return read;
}

int64_t NamedTensors::Stored(const std::string& name) const {
  const wire::TensorInfo* info = reader_.Find(name + kValuesSuffix);
  if (info == nullptr) info = reader_.Find(name);
  int64_t stored = info == nullptr ? 0 : 1;
  if (info == nullptr) return stored;
  for (const int64_t size : info->shape) stored *= size;
  return stored;
}

}  // namespace espalier::language
