#include "server/reduce/robust_rules.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace espalier::server::reduce {
namespace {

// Calls visit(i, column) for each value i, where `column` has that value of every update and may be
// reordered. A block of values is gathered at a time, so that updates are read in order.
template <typename Visit>
void ForEachValue(Updates updates, const Visit& visit) {
  constexpr size_t kBlock = 256;
  const size_t count = updates.size();
  const size_t size = updates.front().size();
  std::vector<float> columns(kBlock * count);
  for (size_t begin = 0; begin < size; begin += kBlock) {
    const size_t length = std::min(kBlock, size - begin);
    for (size_t k = 0; k < count; ++k) {
      for (size_t i = 0; i < length; ++i) columns[i * count + k] = updates[k][begin + i];
    }
    for (size_t i = 0; i < length; ++i) {
      visit(begin + i, std::span(columns).subspan(i * count, count));
    }
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
  const size_t middle = updates.size() / 2;
  const bool even = updates.size() % 2 == 0;
  ForEachValue(updates, [&](size_t i, std::span<float> column) {
    std::nth_element(column.begin(), column.begin() + middle, column.end());
    double median = column[middle];
    if (even) median = 0.5 * (median + *std::max_element(column.begin(), column.begin() + middle));
    medians[i] = static_cast<float>(median);
  });
  return medians;
}

std::vector<float> TrimmedMean(Updates updates, int64_t cut) {
  std::vector<float> means(updates.front().size());
  const size_t left = updates.size() - 2 * cut;
  ForEachValue(updates, [&](size_t i, std::span<float> column) {
    std::ranges::sort(column);
    const auto kept = column.subspan(cut, left);
    means[i] = static_cast<float>(std::accumulate(kept.begin(), kept.end(), 0.0) /
                                  static_cast<double>(left));
  });
  return means;
}

int64_t TrimCount(double fraction, int64_t count) {
  // Rounded up, but not for the last bit of the product.
  const double wanted = std::ceil(fraction * static_cast<double>(count) - 1e-9);
  return std::min(static_cast<int64_t>(std::max(wanted, 0.0)), (count - 1) / 2);
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
