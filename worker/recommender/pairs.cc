#include "worker/recommender/pairs.h"

#include <algorithm>
#include <cmath>

#include "common/base/rng.h"

namespace espalier::worker::recommender {

Pairs DrawPairs(const Interactions& train, std::span<const int32_t> order, int32_t negatives,
                const Step& step) {
  constexpr int kAttempts = 1000;
  Pairs pairs;
  pairs.positives = static_cast<int64_t>(order.size());
  for (const int32_t interaction : order) {
    pairs.users.push_back(static_cast<int32_t>(train.UserOf(interaction)));
    pairs.items.push_back(train.columns()[interaction]);
  }
  for (int64_t n = 0; n < pairs.positives; ++n) {
    base::Rng rng(base::StreamKey(step.seed, "negative",
                                  {static_cast<uint64_t>(step.index), static_cast<uint64_t>(n)}));
    for (int32_t k = 0; k < negatives; ++k) {
      int32_t item = 0;
      for (int attempt = 0; attempt < kAttempts; ++attempt) {
        item = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(train.items())));
        if (!train.Contains(pairs.users[n], item)) break;
      }
      pairs.users.push_back(pairs.users[n]);
      pairs.items.push_back(item);
    }
  }
  return pairs;
}

double PairLoss(const Pairs& pairs, float* scores) {
  const auto size = static_cast<int64_t>(pairs.users.size());
  double loss = 0;
  for (int64_t m = 0; m < size; ++m) {
    const bool positive = m < pairs.positives;
    const double weight =
        1.0 / static_cast<double>(positive ? pairs.positives : size - pairs.positives);
    const double margin = positive ? -scores[m] : scores[m];
    loss += weight * (std::max(margin, 0.0) + std::log1p(std::exp(-std::fabs(margin))));
    const double sigmoid = 1 / (1 + std::exp(-margin));
    scores[m] = static_cast<float>(positive ? -weight * sigmoid : weight * sigmoid);
  }
  return loss;
}

TouchedRows::TouchedRows(std::span<const int32_t> of_examples) : index(of_examples.size()) {
  // Sorted together with the examples, so that none has to be looked up again.
  std::vector<uint64_t> keys(of_examples.size());
  for (size_t m = 0; m < keys.size(); ++m)
    keys[m] = static_cast<uint64_t>(of_examples[m]) << 32 | m;
  std::ranges::sort(keys);
  for (const uint64_t key : keys) {
    const auto row = static_cast<int32_t>(key >> 32);
    if (rows.empty() || rows.back() != row) rows.push_back(row);
    index[key & 0xFFFFFFFF] = static_cast<int64_t>(rows.size()) - 1;
  }
}

std::vector<float> TouchedRows::Expand(const RowTensor& table) const {
  std::vector<float> dense(rows.size() * table.cols());
  for (size_t k = 0; k < rows.size(); ++k) table.Expand(rows[k], &dense[k * table.cols()]);
  return dense;
}

void EmitRows(GradientSink& sink, size_t index, const RowTensor& table, const TouchedRows& touched,
              std::span<const float> gradients) {
  std::vector<float> stored(table.cols());
  for (size_t k = 0; k < touched.rows.size(); ++k) {
    const float* row = gradients.data() + k * table.cols();
    if (sink.wants_all(index)) {
      sink.AllOf(index, touched.rows[k], row);
    } else {
      table.Gather(touched.rows[k], row, stored.data());
      sink.StoredOf(index, touched.rows[k], 1, stored.data());
    }
  }
}

}  // namespace espalier::worker::recommender
