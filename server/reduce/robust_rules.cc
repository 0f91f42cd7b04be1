#include "server/reduce/robust_rules.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "server/reduce/aggregation.h"

namespace espalier::server::reduce {
namespace {

// Values that are sorted side by side.
constexpr size_t kBlock = 256;

// Row k holds a block of values of update k; of each value the smaller one goes to `low`.
void CompareExchange(float* __restrict low, float* __restrict high) {
  for (size_t i = 0; i < kBlock; ++i) {
    const float a = low[i];
    const float b = high[i];
    low[i] = a < b ? a : b;
    high[i] = a < b ? b : a;
  }
}

// Sorts each column of `rows`, ascending, by merge exchange (Knuth, The Art of Computer Programming
// 3, 5.2.2 M): which rows are compared does not depend on the values, so that all columns of a
// block are sorted at once.
void SortColumns(size_t count, float* rows) {
  const size_t half = std::bit_ceil(count) / 2;
  for (size_t p = half; p > 0; p /= 2) {
    size_t distance = p;
    size_t rest = 0;
    for (size_t q = half;; q /= 2) {
      for (size_t i = 0; i + distance < count; ++i) {
        if ((i & p) == rest) CompareExchange(rows + i * kBlock, rows + (i + distance) * kBlock);
      }
      if (q == p) break;
      distance = q - p;
      rest = p;
    }
  }
}

// Calls visit(begin, length, rows) for each block of values from `begin` on, where the columns of
// `rows`, one row of kBlock values for each update, are sorted.
template <typename Visit>
void ForEachSortedBlock(Updates updates, const Visit& visit) {
  const size_t size = updates.front().size();
  std::vector<float> rows(kBlock * updates.size());
  for (size_t begin = 0; begin < size; begin += kBlock) {
    const size_t length = std::min(kBlock, size - begin);
    for (size_t k = 0; k < updates.size(); ++k) {
      std::ranges::copy(updates[k].subspan(begin, length), rows.begin() + k * kBlock);
    }
    SortColumns(updates.size(), rows.data());
    visit(begin, length, rows.data());
  }
}

// Lanes of fixed number, so that compilers may use vectors without changing the order of sums.
double SquaredDistance(std::span<const float> a, std::span<const float> b) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  const size_t whole = a.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double difference = static_cast<double>(a[i + lane]) - static_cast<double>(b[i + lane]);
      sums[lane] += difference * difference;
    }
  }
  for (size_t i = whole; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sums[i - whole] += difference * difference;
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

double DistanceWithin(std::span<const float> a, std::span<const float> b,
                      std::span<const ValueRange> ranges) {
  double sum = 0;
  for (const ValueRange& range : ranges) {
    const int64_t size = range.end - range.begin;
    sum += SquaredDistance(a.subspan(range.begin, size), b.subspan(range.begin, size));
  }
  return sum;
}

}  // namespace

std::vector<float> CoordinateMedian(Updates updates) {
  std::vector<float> medians(updates.front().size());
  const size_t upper = updates.size() / 2;
  const size_t lower = (updates.size() - 1) / 2;
  ForEachSortedBlock(updates, [&](size_t begin, size_t length, const float* rows) {
    for (size_t i = 0; i < length; ++i) {
      const double low = rows[lower * kBlock + i];
      const double high = rows[upper * kBlock + i];
      medians[begin + i] = static_cast<float>(0.5 * (low + high));
    }
  });
  return medians;
}

std::vector<float> TrimmedMean(Updates updates, int64_t cut) {
  std::vector<float> means(updates.front().size());
  const size_t end = updates.size() - cut;
  const auto left = static_cast<double>(end - cut);
  ForEachSortedBlock(updates, [&](size_t begin, size_t length, const float* rows) {
    std::array<double, kBlock> sums{};
    for (size_t k = cut; k < end; ++k) {
      for (size_t i = 0; i < kBlock; ++i) sums[i] += rows[k * kBlock + i];
    }
    for (size_t i = 0; i < length; ++i) means[begin + i] = static_cast<float>(sums[i] / left);
  });
  return means;
}

int64_t TrimCount(double fraction, int64_t count) {
  // Rounded up, but not for the last bit of the product.
  const double wanted = std::ceil(fraction * static_cast<double>(count) - 1e-9);
  return std::min(static_cast<int64_t>(std::max(wanted, 0.0)), (count - 1) / 2);
}

int64_t ToleratedBy(const Aggregation& aggregation, int64_t participants) {
  switch (aggregation.rule) {
    case Rule::kMedian:
      return std::max<int64_t>(0, (participants - 1) / 2);
    case Rule::kTrimmedMean:
      return std::max<int64_t>(0, TrimCount(aggregation.trim_fraction, participants));
    case Rule::kKrum:
    case Rule::kMultiKrum:
      return aggregation.byzantine;
    default:
      return 0;
  }
}

std::vector<double> KrumScores(Updates updates, std::span<const ValueRange> ranges,
                               int64_t byzantine) {
  const auto count = static_cast<int64_t>(updates.size());
  std::vector<double> distances(count * count, 0.0);
  for (int64_t a = 0; a < count; ++a) {
    for (int64_t b = 0; b < a; ++b) {
      distances[a * count + b] = distances[b * count + a] =
          DistanceWithin(updates[a], updates[b], ranges);
    }
  }
  const int64_t neighbours =
      std::clamp<int64_t>(count - byzantine - 2, std::min<int64_t>(1, count - 1), count - 1);
  std::vector<double> scores(count);
  for (int64_t a = 0; a < count; ++a) {
    std::vector<double> others;
    for (int64_t b = 0; b < count; ++b) {
      if (b != a) others.push_back(distances[a * count + b]);
    }
    std::ranges::sort(others);
    scores[a] = std::accumulate(others.begin(), others.begin() + neighbours, 0.0);
  }
  return scores;
}

std::vector<size_t> LowestScores(std::span<const double> scores, int64_t count) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](size_t i) { return scores[i]; });
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

std::vector<float> MeanOf(Updates updates, std::span<const size_t> chosen) {
  std::vector<float> means(updates.front().size());
  for (size_t i = 0; i < means.size(); ++i) {
    double sum = 0;
    for (const size_t k : chosen) sum += updates[k][i];
    means[i] = static_cast<float>(sum / static_cast<double>(chosen.size()));
  }
  return means;
}

}  // namespace espalier::server::reduce
