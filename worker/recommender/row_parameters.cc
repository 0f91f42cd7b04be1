#include "worker/recommender/row_parameters.h"

#include <algorithm>
#include <array>

#include "worker/engine/optimizer.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::recommender {

RowOptimizer::RowOptimizer(const engine::OptimizerSpec& spec, const RowTensor& tensor)
    : spec_(spec),
      tensor_(tensor),
      slots_(engine::OptimizerSlots(spec)),
      updated_(spec.lazy_rows ? 0 : tensor.rows()),
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

void RowOptimizer::UpdateTouched(int64_t first, int64_t count, const float* gradient,
                                 double learning_rate, int64_t step) {
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

bool RowOptimizer::RestsWithoutGradient(int64_t group) const {
  return spec_.weight_decay == 0 && (slots_ == 0 || groups_[group] == nullptr);
}

void RowOptimizer::Update(int64_t first, int64_t count, const float* gradient, double learning_rate,
                          int64_t step) {
  if (frozen_) return;
  if (spec_.lazy_rows) return UpdateTouched(first, count, gradient, learning_rate, step);
  const int64_t group = first / kRowsPerGroup;
  const int64_t begin = tensor_.begin(first);
  const int64_t size = tensor_.begin(first + count) - begin;
  if (RestsWithoutGradient(group) &&
      std::all_of(gradient, gradient + size, [](float g) { return g == 0.0F; })) {
    return;
  }
  UpdateRange(group, begin, size, gradient, learning_rate, step);
  std::fill_n(updated_.begin() + first, count, uint8_t{1});
}

void RowOptimizer::Prefetch(int64_t row) const {
  const int64_t group = row / kRowsPerGroup;
  const int64_t begin = tensor_.begin(row);
  __builtin_prefetch(tensor_.values() + begin);
  if (slots_ == 0 || groups_[group] == nullptr) return;
  for (int slot = 0; slot < slots_; ++slot) {
    __builtin_prefetch(groups_[group].get() + slot * GroupSize(group) +
                       (begin - GroupBegin(group)));
  }
}

void RowOptimizer::UpdateAtRest(int64_t group, int64_t first, int64_t size, double learning_rate,
                                int64_t step) {
  static constexpr std::array<float, 1024> kZeros = {};
  constexpr auto kPiece = static_cast<int64_t>(kZeros.size());
  for (const int64_t end = first + size; first < end; first += kPiece) {
    UpdateRange(group, first, std::min(kPiece, end - first), kZeros.data(), learning_rate, step);
  }
}

void RowOptimizer::EndGroup(int64_t group, double learning_rate, int64_t step) {
  const int64_t first = group * kRowsPerGroup;
  const int64_t last = std::min(first + kRowsPerGroup, tensor_.rows());
  if (!RestsWithoutGradient(group)) {
    for (int64_t row = first; row < last;) {
      int64_t end = row;
      while (end < last && updated_[end] == 0) ++end;
      const int64_t begin = tensor_.begin(row);
      UpdateAtRest(group, begin, tensor_.begin(end) - begin, learning_rate, step);
      row = end + 1;
    }
  }
  std::fill(updated_.begin() + first, updated_.begin() + last, uint8_t{0});
}

void RowOptimizer::EndStep(double learning_rate, int64_t step, int threads) {
  if (frozen_ || spec_.lazy_rows) return;
  const auto groups = static_cast<int64_t>(groups_.size());
  constexpr int64_t kGroupsWorthThreads = 64;
  engine::ParallelRows(groups < kGroupsWorthThreads ? 1 : threads, groups,
                       [&](engine::RowRange range) {
                         for (int64_t group = range.begin; group < range.end; ++group) {
                           EndGroup(group, learning_rate, step);
                         }
                       });
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
