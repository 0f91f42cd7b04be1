// espalier-bench-encoding: bytes of structures on the wire, against the least that any code needs.
//
// Whole messages (serialised FullTopology and TopologyUpdate), not only their payload. The bound of
// a random structure of m of n positions is log2 C(n, m) bits; that of a change by k weights
// log2 C(m, k) + log2 C(n − m + k, k). Random growth may also travel as a key.
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/sparsity/grow.h"
#include "common/sparsity/random_topology.h"
#include "common/tensor/model_layout.h"
#include "common/wire/topology_codec.h"
#include "fmt/format.h"

namespace espalier {
namespace {

constexpr int64_t kSide = 2000;
constexpr int64_t kPositions = kSide * kSide;

template <typename T>
T ValueOrFail(absl::StatusOr<T> result) {
  if (result.ok()) return std::move(result).value();
  fmt::print(stderr, "espalier-bench-encoding: {}\n", base::MessageOf(result.status()));
  std::exit(1);
}

double ChooseBytes(int64_t n, int64_t m) {
  const auto log_factorial = [](int64_t x) { return std::lgamma(static_cast<double>(x) + 1); };
  return (log_factorial(n) - log_factorial(m) - log_factorial(n - m)) / std::log(2.0) / 8;
}

tensor::Topology Random(int64_t count, uint64_t key) {
  return ValueOrFail(sparsity::RandomTopology(kSide, kSide, count, key));
}

tensor::ModelTopology ModelOf(tensor::Topology topology) {
  const std::vector<tensor::LinearShape> layers = {{.units = kSide, .bias = false}};
  auto layout = std::make_shared<const tensor::ModelLayout>(
      ValueOrFail(tensor::LinearStackLayout(kSide, layers)));
  return ValueOrFail(tensor::ModelTopology::Create(
      layout, {std::make_shared<const tensor::Topology>(std::move(topology))}));
}

void PrintStructure(double density) {
  const auto count = std::llround(density * kPositions);
  const auto message = ValueOrFail(wire::EncodeTopology(ModelOf(Random(count, 1))));
  const double bound = ChooseBytes(kPositions, count);
  const auto bytes = static_cast<double>(message.ByteSizeLong());
  fmt::print("| {} | {} | {:.0f} | {:.0f} | {:.3f} | {:.2f} |\n", density, count, bytes, bound,
             bytes / bound, 8 * bytes / static_cast<double>(count));
}

// `change` of the weights are dropped, and as many grown at random.
void PrintChange(double density, double change) {
  const auto count = std::llround(density * kPositions);
  const auto changed = std::llround(change * static_cast<double>(count));
  const tensor::ModelTopology base = ModelOf(Random(count, 1));
  wire::TensorChange entry;
  for (const int64_t i : sparsity::DrawPositions(2, changed, count)) {
    entry.diff.dropped.push_back(static_cast<int32_t>(i));
  }
  entry.diff.grown = sparsity::GrowRandom(base.topology(0), entry.diff.dropped, changed, 3);
  const tensor::ModelTopology updated =
      ModelOf(ValueOrFail(tensor::Apply(base.topology(0), entry.diff)));
  const auto message = ValueOrFail(
      wire::EncodeTopologyUpdate(base, updated, std::vector<wire::TensorChange>{entry}));
  const double bound =
      ChooseBytes(count, changed) + ChooseBytes(kPositions - count + changed, changed);
  const auto bytes = static_cast<double>(message.ByteSizeLong());
  fmt::print("| {} | {} | {} | {:.0f} | {:.3f} | {:.2f} |\n", density, change, changed, bytes,
             bytes / bound, bytes / static_cast<double>(changed));
}

}  // namespace
}  // namespace espalier

int main() {
  fmt::print("| density | weights | bytes | bound | bytes / bound | bits a weight |\n");
  fmt::print("| --- | --- | --- | --- | --- | --- |\n");
  for (const double density : {0.5, 0.3, 0.2, 0.1, 0.05, 0.01, 0.001}) {
    espalier::PrintStructure(density);
  }
  fmt::print("\n| density | changed | weights | bytes | bytes / bound | bytes a swap |\n");
  fmt::print("| --- | --- | --- | --- | --- | --- |\n");
  for (const double density : {0.1, 0.01}) {
    for (const double change : {0.3, 0.1, 0.01, 0.001}) espalier::PrintChange(density, change);
  }
  return 0;
}
