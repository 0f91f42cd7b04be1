#include "server/methods/growth/exact_growth.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "common/base/status.h"
#include "common/wire/index_set.h"

namespace espalier::server::methods {
namespace {

// Covers the rounding of means to float32 and of gradients between two computations.
constexpr double kMargin = 1 - 1e-6;
// Honest answers need two; answers that contradict each other must end as well.
constexpr int32_t kMaxTurns = 3;

// The count-th largest, 0 when there are fewer.
double KthLargest(std::vector<double> values, int64_t count) {
  if (static_cast<int64_t>(values.size()) < count) return 0;
  const auto kth = values.begin() + (count - 1);
  std::nth_element(values.begin(), kth, values.end(), std::greater<>());
  return *kth;
}

double KthMagnitude(const std::vector<float>& values, int64_t count) {
  std::vector<double> magnitudes;
  magnitudes.reserve(values.size());
  for (const float value : values) magnitudes.push_back(std::abs(static_cast<double>(value)));
  return KthLargest(std::move(magnitudes), count);
}

}  // namespace

ExactGrowth::ExactGrowth(const std::vector<int64_t>& counts) : tensors_(counts.size()) {
  for (size_t i = 0; i < counts.size(); ++i) {
    tensors_[i].count = counts[i];
    tensors_[i].open = counts[i] > 0;
  }
  if (AnyOpen()) question_ = Question::kLists;
}

bool ExactGrowth::AnyOpen() const {
  return std::ranges::any_of(tensors_, [](const Tensor& tensor) { return tensor.open; });
}

std::vector<int64_t> ExactGrowth::ChunkSizes() const {
  std::vector<int64_t> sizes;
  int64_t left = kMaxPositions;
  for (const Tensor& tensor : tensors_) {
    sizes.push_back(std::min(left, static_cast<int64_t>(tensor.pending.size())));
    left -= sizes.back();
  }
  return sizes;
}

v1::GrowthTask ExactGrowth::Task(const tensor::ModelLayout& layout) const {
  v1::GrowthTask task;
  const std::vector<int64_t> sizes = ChunkSizes();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const Tensor& tensor = tensors_[i];
    if (question_ == Question::kLists) task.add_counts(tensor.count);
    if (question_ == Question::kThresholds) {
      const double share = tensor.threshold * kMargin * static_cast<double>(examples_) /
                           static_cast<double>(participants_);
      // All that is not zero, when there is no better bound.
      task.add_thresholds(tensor.open ? std::max(share, std::numeric_limits<double>::min()) : 0);
    }
    if (question_ == Question::kValues) {
      *task.add_positions() = wire::EncodeIndexSet(std::span(tensor.pending).first(sizes[i]),
                                                   static_cast<uint64_t>(layout[i].size()));
    }
  }
  return task;
}

absl::Status ExactGrowth::Take(const reduce::Reduced& reduced) {
  if (reduced.scores.size() != tensors_.size()) {
    return base::FailedPrecondition(
        "GROWTH_SCORES_MISSING",
        "expected gradients from the workers, found none; check that all workers run this version");
  }
  if (question_ == Question::kLists) {
    TakeLists(reduced);
  } else if (question_ == Question::kThresholds) {
    TakeThresholds(reduced);
  } else {
    TakeValues(reduced);
  }
  return absl::OkStatus();
}

void ExactGrowth::TakeLists(const reduce::Reduced& reduced) {
  participants_ = std::max<int64_t>(1, reduced.participants);
  examples_ = reduced.examples;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = tensors_[i];
    if (!tensor.open) continue;
    tensor.threshold = KthMagnitude(reduced.scores[i].values, tensor.count);
    if (participants_ > 1) continue;
    tensor.known = reduced.scores[i];
    tensor.open = false;
  }
  question_ = AnyOpen() ? Question::kThresholds : Question::kNone;
}

void ExactGrowth::TakeThresholds(const reduce::Reduced& reduced) {
  const auto others = static_cast<double>(participants_ - 1);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = tensors_[i];
    tensor.pending.clear();
    if (!tensor.open) continue;
    tensor.known = {};
    // Somebody has reported each of these; the others have less than the threshold each.
    const double unknown = others * tensor.threshold / static_cast<double>(participants_);
    const reduce::ScoreList& list = reduced.scores[i];
    std::vector<double> least;
    least.reserve(list.values.size());
    for (const float value : list.values) {
      least.push_back(std::max(0.0, std::abs(static_cast<double>(value)) - unknown));
    }
    const double bound = KthLargest(std::move(least), tensor.count) * kMargin;
    for (size_t k = 0; k < list.positions.size(); ++k) {
      if (std::abs(static_cast<double>(list.values[k])) + unknown >= bound) {
        tensor.pending.push_back(list.positions[k]);
      }
    }
  }
  question_ = Question::kValues;
}

void ExactGrowth::TakeValues(const reduce::Reduced& reduced) {
  const std::vector<int64_t> sizes = ChunkSizes();
  bool more = false;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = tensors_[i];
    const reduce::ScoreList& list = reduced.scores[i];
    tensor.known.positions.insert(tensor.known.positions.end(), list.positions.begin(),
                                  list.positions.end());
    tensor.known.values.insert(tensor.known.values.end(), list.values.begin(), list.values.end());
    tensor.pending.erase(tensor.pending.begin(), tensor.pending.begin() + sizes[i]);
    more = more || !tensor.pending.empty();
  }
  if (more) return;
  ++turns_;
  for (Tensor& tensor : tensors_) {
    if (!tensor.open) continue;
    const double kth = KthMagnitude(tensor.known.values, tensor.count);
    tensor.open = kth < tensor.threshold * kMargin && turns_ < kMaxTurns;
    tensor.threshold = kth;
  }
  question_ = AnyOpen() ? Question::kThresholds : Question::kNone;
}

std::vector<reduce::ScoreList> ExactGrowth::lists() const {
  std::vector<reduce::ScoreList> lists;
  lists.reserve(tensors_.size());
  for (const Tensor& tensor : tensors_) lists.push_back(tensor.known);
  return lists;
}

void ExactGrowth::Put(io::ByteWriter& writer) const {
  writer.Put<uint8_t>(static_cast<uint8_t>(question_));
  writer.Put<int64_t>(participants_);
  writer.Put<int64_t>(examples_);
  writer.Put<int32_t>(turns_);
  writer.Put<uint64_t>(tensors_.size());
  for (const Tensor& tensor : tensors_) {
    writer.Put<int64_t>(tensor.count);
    writer.Put<uint8_t>(tensor.open ? 1 : 0);
    writer.Put<double>(tensor.threshold);
    writer.PutArray<int64_t>(tensor.pending);
    writer.PutArray<int64_t>(tensor.known.positions);
    writer.PutArray<float>(tensor.known.values);
  }
}

ExactGrowth ExactGrowth::Get(io::ByteReader& reader) {
  ExactGrowth growth;
  growth.question_ = static_cast<Question>(reader.Get<uint8_t>());
  growth.participants_ = reader.Get<int64_t>();
  growth.examples_ = reader.Get<int64_t>();
  growth.turns_ = reader.Get<int32_t>();
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    Tensor tensor;
    tensor.count = reader.Get<int64_t>();
    tensor.open = reader.Get<uint8_t>() != 0;
    tensor.threshold = reader.Get<double>();
    tensor.pending = reader.GetArray<int64_t>();
    tensor.known.positions = reader.GetArray<int64_t>();
    tensor.known.values = reader.GetArray<float>();
    growth.tensors_.push_back(std::move(tensor));
  }
  return growth;
}

}  // namespace espalier::server::methods
