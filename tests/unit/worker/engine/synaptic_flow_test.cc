// SynapticFlow against finite differences of the flow in double, written for clarity.
#include "worker/engine/synaptic_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/status.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/reference/reference_math.h"

namespace espalier::worker::engine {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

LayerSpec Conv(int64_t units, int64_t kernel, int64_t stride, int64_t padding) {
  return {.kind = LayerKind::kConv,
          .units = units,
          .kernel = kernel,
          .stride = stride,
          .padding = padding};
}
LayerSpec Norm() { return {.kind = LayerKind::kBatchNorm}; }
LayerSpec Pool(LayerKind kind, int64_t kernel, int64_t stride) {
  return {.kind = kind, .kernel = kernel, .stride = stride};
}
LayerSpec Residual(std::vector<LayerSpec> body, std::vector<LayerSpec> shortcut) {
  return {.kind = LayerKind::kResidual, .body = std::move(body), .shortcut = std::move(shortcut)};
}

// The sum of outputs for an example of ones. Weights in layout order are taken for magnitudes.
class Flow {
 public:
  Flow(const NetworkSpec& spec, const tensor::ModelTopology& topology)
      : spec_(spec), topology_(topology) {}

  double operator()(const std::vector<double>& values) {
    values_ = &values;
    tensor_ = 0;
    const MapShape input = spec_.input_image.channels > 0
                               ? spec_.input_image
                               : MapShape{.channels = spec_.input_features};
    const Map out = Through(spec_.layers, {input, std::vector<double>(input.features(), 1.0)});
    return std::accumulate(out.data.begin(), out.data.end(), 0.0);
  }

 private:
  struct Map {
    MapShape shape;
    std::vector<double> data;
  };

  Map Through(const std::vector<LayerSpec>& layers, Map map) {
    for (const LayerSpec& layer : layers) map = Apply(layer, map);
    return map;
  }

  Map Apply(const LayerSpec& layer, const Map& in) {
    if (layer.kind == LayerKind::kFlatten) {
      return {{.channels = in.shape.features()}, in.data};
    }
    if (layer.kind == LayerKind::kBatchNorm) return Normalize(layer, in);
    if (layer.kind == LayerKind::kResidual) {
      Map body = Through(layer.body, in);
      const Map shortcut = Through(layer.shortcut, in);
      for (size_t i = 0; i < body.data.size(); ++i) body.data[i] += shortcut.data[i];
      return body;
    }
    if (layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConv) {
      return Product(layer, in);
    }
    const bool global = layer.kind == LayerKind::kGlobalAveragePool;
    return PoolOf(layer, global ? in.shape.height : layer.kernel,
                  global ? in.shape.width : layer.kernel, global ? 1 : layer.stride, in);
  }

  Map Normalize(const LayerSpec& layer, const Map& in) {
    Map out = in;
    const double* scale = Next();
    tensor_ += 2;  // shift, mean
    const double* variance = Next();
    for (size_t i = 0; i < out.data.size(); ++i) {
      const size_t c = i / in.shape.positions();
      out.data[i] *= std::abs(scale[c]) / std::sqrt(variance[c] + layer.epsilon);
    }
    return out;
  }

  const double* Next() { return values_->data() + topology_.offset(tensor_++); }

  Map Product(const LayerSpec& layer, const Map& in) {
    const bool linear = layer.kind == LayerKind::kLinear;
    const ConvShape shape = {.in_channels = linear ? in.shape.features() : in.shape.channels,
                             .in_height = linear ? 1 : in.shape.height,
                             .in_width = linear ? 1 : in.shape.width,
                             .out_channels = layer.units,
                             .kernel = layer.kernel,
                             .stride = layer.stride,
                             .padding = layer.padding};
    const auto structure = topology_.Structure(tensor_).value();
    const double* stored = Next();
    std::vector<double> magnitudes(stored, stored + structure->nnz());
    for (double& value : magnitudes) value = std::abs(value);
    Map out = {{layer.units, shape.out_height(), shape.out_width()}, {}};
    out.data.resize(out.shape.features());
    reference::Convolve(*structure, shape, magnitudes.data(), in.data.data(), 1, 1,
                        out.data.data());
    if (layer.bias) ++tensor_;
    return out;
  }

  static Map PoolOf(const LayerSpec& layer, int64_t height, int64_t width, int64_t stride,
                    const Map& in) {
    Map out = {{in.shape.channels, (in.shape.height - height) / stride + 1,
                (in.shape.width - width) / stride + 1},
               {}};
    for (int64_t f = 0; f < out.shape.features(); ++f) {
      const int64_t c = f / out.shape.positions();
      double largest = 0;
      double sum = 0;
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          const int64_t row = f % out.shape.positions() / out.shape.width * stride + i;
          const int64_t col = f % out.shape.width * stride + j;
          const double x = in.data[(c * in.shape.height + row) * in.shape.width + col];
          largest = std::max(largest, x);
          sum += x;
        }
      }
      const bool max = layer.kind == LayerKind::kMaxPool;
      out.data.push_back(max ? largest : sum / static_cast<double>(height * width));
    }
    return out;
  }

  const NetworkSpec& spec_;
  const tensor::ModelTopology& topology_;
  const std::vector<double>* values_ = nullptr;
  size_t tensor_ = 0;
};

NetworkSpec ImageSpec(std::vector<LayerSpec> layers) {
  layers.push_back({.units = 3, .activation = Activation::kLinear});
  return {.input_features = 84, .layers = std::move(layers), .input_image = {2, 7, 6}};
}

std::vector<float> ValuesFor(const tensor::ModelTopology& topology) {
  std::vector<float> values = RandomFloats(topology.total_stored(), 11);
  for (size_t t = 0; t < topology.num_tensors();
       ++t) {  // running variances and scales are positive
    if (topology.layout()[t].cols != 1) continue;
    for (int64_t i = 0; i < topology.stored(t); ++i) {
      float& value = values[topology.offset(t) + i];
      value = std::abs(value) + 0.1F;
    }
  }
  return values;
}

TEST(SynapticFlowTest, ScoresAgreeWithFiniteDifferencesUpToOneFactor) {
  const LayerSpec conv = Conv(4, 3, 1, 1);
  const NetworkSpec specs[] = {
      {.input_features = 9, .layers = {{.units = 7}, {.units = 5, .bias = false}, {.units = 3}}},
      ImageSpec({conv, Norm(), Conv(3, 5, 2, 2)}),
      ImageSpec({Conv(4, 3, 2, 1), Pool(LayerKind::kMaxPool, 2, 1), conv}),
      ImageSpec({conv, Pool(LayerKind::kAveragePool, 3, 2), Pool(LayerKind::kFlatten, 1, 1)}),
      ImageSpec({conv, Pool(LayerKind::kGlobalAveragePool, 1, 1)}),
      ImageSpec({conv, Residual({conv, Norm(), conv}, {}),
                 Residual({Conv(6, 3, 2, 1), Norm(), Conv(6, 3, 1, 1)}, {Conv(6, 1, 2, 0)})}),
      ImageSpec({Residual({Residual({conv}, {conv, Norm()}), conv}, {conv})}),
  };
  for (const NetworkSpec& spec : specs) {
    for (const double density : {1.0, 0.5}) {
      const auto topology = MakeModelTopology(spec, density);
      const std::vector<float> values = ValuesFor(*topology);
      auto flow = SynapticFlow::Create(spec, topology, values, 2);
      ASSERT_TRUE(flow.ok()) << flow.status();
      flow->Score();
      const std::vector<double> scores = flow->Scores();
      Flow reference(spec, *topology);
      std::vector<double> exact(values.begin(), values.end());
      double factor = 0;
      int64_t first = 0;
      for (size_t t = 0; t < topology->num_tensors(); ++t) {
        if (!topology->layout()[t].sparsifiable) continue;
        const std::vector<int64_t> positions = topology->Structure(t).value()->Positions();
        for (size_t k = 0; k < positions.size(); ++k) {
          double& value = exact[topology->offset(t) + static_cast<int64_t>(k)];
          const double before = value;
          // R is linear in a single weight, so the difference is exact but for rounding, unless
          // another input of a max pool overtakes.
          value = before * (1 + 1e-5);
          const double above = reference(exact);
          value = before * (1 - 1e-5);
          const double expected = (above - reference(exact)) / 2e-5;
          value = before;
          const double score = scores[first + positions[k]];
          if (expected < 1e-6) {
            EXPECT_NEAR(score * factor, expected, 1e-6);
            continue;
          }
          if (factor == 0) factor = expected / score;
          ASSERT_NEAR(score * factor, expected, 1e-4 * expected) << "tensor " << t << ", " << k;
        }
        first += topology->layout()[t].size();
      }
      EXPECT_EQ(first, static_cast<int64_t>(scores.size()));
    }
  }
}

// In a chain all of R goes through every layer: the scores of each add up to it.
TEST(SynapticFlowTest, FlowIsConservedWhereFloatsWouldOverflow) {
  NetworkSpec spec = {.input_features = 6, .layers = {}};
  for (int i = 0; i < 80; ++i) spec.layers.push_back({.units = 6, .bias = false});
  const auto topology = MakeModelTopology(spec, 1);
  std::vector<float> values = RandomFloats(topology->total_stored(), 4);
  for (float& value : values) value *= 1e10F;  // R is about 1e800
  auto flow = SynapticFlow::Create(spec, topology, values, 1).value();
  flow.Score();
  const std::vector<double> scores = flow.Scores();
  const double total = std::accumulate(scores.begin(), scores.begin() + 36, 0.0);
  ASSERT_TRUE(std::isfinite(total) && total > 0);
  for (int layer = 1; layer < 80; ++layer) {
    const auto begin = scores.begin() + 36 * layer;
    EXPECT_NEAR(std::accumulate(begin, begin + 36, 0.0), total, 1e-9 * total);
  }
}

TEST(SynapticFlowTest, PrunesToTheCountAndNeverRevives) {
  const NetworkSpec spec = ImageSpec({Conv(4, 3, 1, 1), Norm(), Conv(4, 3, 1, 1)});
  const auto topology = MakeModelTopology(spec, 1);
  const std::vector<float> values = ValuesFor(*topology);
  auto flow = SynapticFlow::Create(spec, topology, values, 2).value();
  std::vector<float> before(topology->sparsifiable_size(), 1.0F);
  for (const int64_t count : {400, 100, 20}) {
    flow.Score();
    flow.Prune(count);
    const std::vector<float> after = flow.NormalizedScores();
    EXPECT_EQ(std::ranges::count_if(after, [](float s) { return s > 0; }), count);
    for (size_t i = 0; i < after.size(); ++i) {
      EXPECT_TRUE(before[i] > 0 || after[i] == 0) << i;
    }
    EXPECT_EQ(*std::ranges::max_element(after), 1.0F);
    before = after;
  }
}

TEST(SynapticFlowTest, AmongEqualsTheLowerPositionStays) {
  const NetworkSpec spec = {.input_features = 2, .layers = {{.units = 2}, {.units = 2}}};
  const auto topology = MakeModelTopology(spec, 1);
  auto flow =
      SynapticFlow::Create(spec, topology, std::vector<float>(topology->total_stored(), 0.5F), 1)
          .value();
  flow.Score();
  flow.Prune(3);
  EXPECT_THAT(flow.NormalizedScores(), ElementsAre(1, 1, 1, 0, 0, 0, 0, 0));
}

TEST(SynapticFlowTest, ExemptWeightsCarryFlowButAreNotScored) {
  NetworkSpec spec = {.input_features = 2, .layers = {{.units = 2}, {.units = 2, .dense = true}}};
  const auto topology = MakeModelTopology(spec, 1);
  std::vector<float> values(topology->total_stored(), 0.5F);
  values[topology->offset(2)] = 3;  // from unit 0
  auto flow = SynapticFlow::Create(spec, topology, values, 1).value();
  flow.Score();
  flow.Prune(2);
  const std::vector<float> scores = flow.NormalizedScores();
  ASSERT_EQ(scores.size(), 4u);
  EXPECT_THAT(scores, ElementsAre(1, 1, 0, 0));
}

TEST(SynapticFlowTest, WeightsWithoutFlowCountAsLeft) {
  const NetworkSpec spec = {.input_features = 2, .layers = {{.units = 2}}};
  const auto topology = MakeModelTopology(spec, 1);
  auto flow =
      SynapticFlow::Create(spec, topology, std::vector<float>(topology->total_stored()), 1).value();
  flow.Score();
  EXPECT_THAT(flow.NormalizedScores(), Each(testing::FloatEq(0x1p-59F)));
}

TEST(SynapticFlowTest, FlowBeyondDoubleShowsInTheScores) {
  const NetworkSpec spec = {.input_features = 2, .layers = {{.units = 2}, {.units = 2}}};
  const auto topology = MakeModelTopology(spec, 1);
  const std::vector<float> values(topology->total_stored(), INFINITY);
  auto flow = SynapticFlow::Create(spec, topology, values, 1).value();
  flow.Score();
  flow.Prune(3);
  EXPECT_TRUE(std::ranges::any_of(flow.NormalizedScores(),
                                  [](float score) { return !std::isfinite(score); }));
}

TEST(SynapticFlowTest, TheSameBitsForAnyNumberOfThreads) {
  const NetworkSpec spec =
      ImageSpec({Conv(5, 3, 1, 1), Residual({Conv(5, 3, 1, 1), Conv(5, 3, 1, 1)}, {})});
  const auto topology = MakeModelTopology(spec, 0.7);
  const std::vector<float> values = ValuesFor(*topology);
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2, 3}) {
    auto flow = SynapticFlow::Create(spec, topology, values, threads).value();
    flow.Score();
    results.push_back(flow.Scores());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(SynapticFlowTest, AnotherModelIsRefused) {
  const NetworkSpec spec = {.input_features = 2, .layers = {{.units = 2}}};
  NetworkSpec other = spec;
  other.layers.push_back({.units = 3});
  const auto topology = MakeModelTopology(other, 1);
  const std::vector<float> values(topology->total_stored());
  EXPECT_EQ(base::ReasonOf(SynapticFlow::Create(spec, topology, values, 1).status()),
            "SHAPE_MISMATCH");
  EXPECT_EQ(
      base::ReasonOf(SynapticFlow::Create(other, topology, std::span(values).first(3), 1).status()),
      "SHAPE_MISMATCH");
}

TEST(SynapticFlowTest, KindsThatSayNoFlowAreRefused) {
  const NetworkSpec spec = {.input_features = 4,
                            .layers = {{.kind = LayerKind::kGelu}, {.units = 2}}};
  const auto topology =
      MakeModelTopology({.input_features = 4, .layers = {{.units = 2}}}, /*density=*/0.5);
  const std::vector<float> values(topology->total_stored(), 1.0F);
  const auto flow = SynapticFlow::Create(spec, topology, values, 1);
  EXPECT_EQ(flow.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(flow.status().message().find("found gelu"), absl::string_view::npos);
}

}  // namespace
}  // namespace espalier::worker::engine
