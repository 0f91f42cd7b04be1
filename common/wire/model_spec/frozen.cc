#include "common/wire/model_spec/frozen.h"

#include <fnmatch.h>

#include <algorithm>
#include <string>

namespace espalier::wire {

std::vector<bool> FrozenTensors(const v1::Training& training, const tensor::ModelLayout& layout) {
  std::vector<bool> frozen;
  frozen.reserve(layout.size());
  for (const tensor::TensorSpec& tensor : layout) {
    frozen.push_back(!tensor.buffer &&
                     std::ranges::any_of(training.frozen(), [&](const std::string& pattern) {
                       return fnmatch(pattern.c_str(), tensor.name.c_str(), 0) == 0;
                     }));
  }
  return frozen;
}

LearnedPart::LearnedPart(const v1::Training& training, const tensor::ModelTopology& topology)
    : total_(topology.total_stored()) {
  const std::vector<bool> frozen = FrozenTensors(training, topology.layout());
  offsets_.reserve(frozen.size());
  for (size_t i = 0; i < frozen.size(); ++i) {
    offsets_.push_back(stored_);
    if (frozen[i]) continue;
    const int64_t begin = topology.offset(i);
    const bool adjoins = !ranges_.empty() && ranges_.back().begin + ranges_.back().size == begin;
    if (adjoins) {
      ranges_.back().size += topology.stored(i);
    } else {
      ranges_.push_back({begin, topology.stored(i)});
    }
    stored_ += topology.stored(i);
  }
}

std::vector<float> LearnedPart::Of(std::span<const float> values) const {
  std::vector<float> learned;
  if (total_ > 0) learned.reserve(values.size() / total_ * stored_);
  for (size_t set = 0; set < values.size(); set += static_cast<size_t>(total_)) {
    for (const auto& [begin, size] : ranges_) {
      const auto part = values.subspan(set + begin, size);
      learned.insert(learned.end(), part.begin(), part.end());
    }
  }
  return learned;
}

std::vector<float> LearnedPart::In(std::span<const float> learned,
                                   std::vector<float> values) const {
  auto from = learned.begin();
  for (size_t set = 0; set < values.size(); set += static_cast<size_t>(total_)) {
    for (const auto& [begin, size] : ranges_) {
      std::copy_n(from, size, values.begin() + static_cast<int64_t>(set) + begin);
      from += size;
    }
  }
  return values;
}

}  // namespace espalier::wire
