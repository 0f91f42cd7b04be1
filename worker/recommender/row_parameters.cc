#include "worker/recommender/row_parameters.h"

#include <algorithm>

#include "worker/engine/optimizer.h"

namespace espalier::worker::recommender {

void RowTensor::Expand(int64_t row, float* out) const {
  const std::span<const float> stored = Row(row);
  if (!is_sparse()) {
    std::ranges::copy(stored, out);
    return;
  }
  std::fill_n(out, cols_, 0.0F);
  const std::span<const int32_t> columns = ColumnsOf(row);
  for (size_t k = 0; k < columns.size(); ++k) out[columns[k]] = stored[k];
}

void RowTensor::Gather(int64_t row, const float* dense, float* out) const {
  if (!is_sparse()) {
    std::copy_n(dense, cols_, out);
    return;
  }
  const std::span<const int32_t> columns = ColumnsOf(row);
  for (size_t k = 0; k < columns.size(); ++k) out[k] = dense[columns[k]];
}

RowOptimizer::RowOptimizer(const engine::OptimizerSpec& spec, const RowTensor& tensor)
    : spec_(spec),
      tensor_(tensor),
      slots_(engine::OptimizerSlots(spec)),
      groups_((tensor.rows() + kRowsPerGroup - 1) / kRowsPerGroup) {}

int64_t RowOptimizer::GroupBegin(int64_t group) const {
  return tensor_.begin(std::min(group * kRowsPerGroup, tensor_.rows()));
}

float* RowOptimizer::Slots(int64_t group) {
  if (slots_ == 0) return nullptr;
  if (groups_[group] == nullptr) {
    groups_[group] = std::make_unique<float[]>(slots_ * GroupSize(group));
  }
  return groups_[group].get();
}

void RowOptimizer::UpdateRange(int64_t group, int64_t first, int64_t size, const float* gradient,
                               double learning_rate, int64_t step) {
  if (size == 0) return;
  float* slots = Slots(group);
  float* first_slot = slots_ >= 1 ? slots + (first - GroupBegin(group)) : nullptr;
  float* second_slot = slots_ >= 2 ? first_slot + GroupSize(group) : nullptr;
  engine::UpdateValues(spec_, learning_rate, step, gradient, size, tensor_.values() + first,
                       first_slot, second_slot);
}

void RowOptimizer::Update(int64_t first, int64_t count, const float* gradient, double learning_rate,
                          int64_t step) {
  const int64_t group = first / kRowsPerGroup;
  const int64_t begin = tensor_.begin(first);
  // Touched rows that follow each other are updated together.
  int64_t run = begin;
  for (int64_t row = first; row < first + count; ++row) {
    const int64_t row_begin = tensor_.begin(row);
    const int64_t row_end = tensor_.begin(row + 1);
    const bool touched = std::any_of(gradient + (row_begin - begin), gradient + (row_end - begin),
                                     [](float g) { return g != 0.0F; });
    if (touched) continue;
    UpdateRange(group, run, row_begin - run, gradient + (run - begin), learning_rate, step);
    run = row_end;
  }
  const int64_t end = tensor_.begin(first + count);
  UpdateRange(group, run, end - run, gradient + (run - begin), learning_rate, step);
}

void RowOptimizer::Reset() {
  for (auto& group : groups_) group.reset();
}

void RowOptimizer::Load(std::span<const float> state, int64_t offset, int64_t distance) {
  for (int64_t group = 0; group < static_cast<int64_t>(groups_.size()); ++group) {
    groups_[group].reset();
    const int64_t size = GroupSize(group);
    for (int slot = 0; slot < slots_; ++slot) {
      const auto from = state.subspan(slot * distance + offset + GroupBegin(group), size);
      const bool empty = std::ranges::all_of(from, [](float x) { return x == 0.0F; });
      if (!empty) std::ranges::copy(from, Slots(group) + slot * size);
    }
  }
}

void RowOptimizer::Store(std::span<float> state, int64_t offset, int64_t distance) const {
  for (int64_t group = 0; group < static_cast<int64_t>(groups_.size()); ++group) {
    if (groups_[group] == nullptr) continue;
    const int64_t size = GroupSize(group);
    for (int slot = 0; slot < slots_; ++slot) {
      std::copy_n(groups_[group].get() + slot * size, size,
                  state.begin() + slot * distance + offset + GroupBegin(group));
    }
  }
}

int64_t RowOptimizer::RowsWithSlots() const {
  int64_t rows = 0;
  for (int64_t group = 0; group < static_cast<int64_t>(groups_.size()); ++group) {
    if (groups_[group] == nullptr) continue;
    rows += std::min(kRowsPerGroup, tensor_.rows() - group * kRowsPerGroup);
  }
  return rows;
}

}  // namespace espalier::worker::recommender
