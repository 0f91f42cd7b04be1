// Memory of the mean does not grow with the number of participants, that of a robust rule by their
// values alone. A program of its own, because it counts every allocation.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "server/reduce/reducer.h"
#include "tests/support/result_layouts.h"

namespace {
std::atomic<int64_t> live_bytes{0};
}  // namespace

// Not inlined: the compiler would take the inner malloc and free for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { operator delete(memory); }

namespace espalier::server::reduce {
namespace {

constexpr int64_t kWeights = 100000;

int64_t BytesHeldAfter(int participants, const Aggregation& aggregation = {}) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.bias", {kWeights}, kWeights, 1, false});
  auto model = tensor::ModelTopology::Create(layout, {nullptr});
  auto topology = std::make_shared<const tensor::ModelTopology>(std::move(model).value());
  const std::vector<float> values(kWeights, 0.5f);
  const int64_t before = live_bytes;
  auto reducer = MakeReducer(ReducerKind::kMean, topology,
                             test::ValuesLayout(topology->total_stored()), aggregation);
  for (int k = 0; k < participants; ++k) {
    Partial partial;
    partial.participant = std::to_string(k);
    partial.examples = 10;
    partial.values_count = kWeights;
    partial.values = [&](const auto& sink) { return sink(values); };
    EXPECT_TRUE(reducer->Merge(partial).ok());
  }
  return live_bytes - before;
}

TEST(ReducerMemoryTest, SixtyFourParticipantsNeedHardlyMoreThanTwo) {
  const int64_t two = BytesHeldAfter(2);
  const int64_t many = BytesHeldAfter(64);
  EXPECT_GE(two, kWeights * 16);
  EXPECT_LE(two, kWeights * 17);
  EXPECT_LE(many - two, 64 * 256);
}

TEST(ReducerMemoryTest, RobustRulesKeepFourBytesPerValueAndParticipant) {
  for (const Rule rule : {Rule::kMedian, Rule::kKrum}) {
    const int64_t bytes = BytesHeldAfter(64, {.rule = rule});
    EXPECT_GE(bytes, 64 * kWeights * 4);
    EXPECT_LE(bytes, 64 * (kWeights * 4 + 5000));
  }
}

TEST(ReducerMemoryTest, KeptUpdatesTakeFourBytesPerWeightBesideTheMean) {
  const int64_t bytes = BytesHeldAfter(64, {.keep_updates = true});
  EXPECT_LE(bytes, 17 * kWeights + 64 * (kWeights * 4 + 5000));
}

}  // namespace
}  // namespace espalier::server::reduce
