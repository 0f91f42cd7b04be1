// Gradients of the engine's layers reach a sink as groups of rows, whatever pieces they come in.
#include "worker/recommender/layers.h"

#include <gtest/gtest.h>

#include <map>

#include "common/tensor/model_layout.h"
#include "tests/unit/worker/recommender/fixtures.h"

namespace espalier::worker::recommender {
namespace {

constexpr int64_t kColumns = 20;

std::vector<float> Random(int64_t size, uint64_t seed) {
  base::Rng rng(base::StreamKey(seed, "layers"));
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(rng.Normal());
  return values;
}

// Keeps everything, and checks the form.
class RecordingSink final : public RowSink {
 public:
  explicit RecordingSink(std::span<const RowTensor> tensors) : tensors_(tensors) {}
  bool wants_all(size_t tensor) const override { return tensors_[tensor].is_sparse(); }
  void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) override {
    EXPECT_EQ(first % kRowsPerGroup, 0);
    EXPECT_EQ(count, std::min(kRowsPerGroup, tensors_[tensor].rows() - first));
    const int64_t size = tensors_[tensor].begin(first + count) - tensors_[tensor].begin(first);
    EXPECT_EQ(static_cast<int64_t>(stored[tensor].size()), tensors_[tensor].begin(first));
    stored[tensor].insert(stored[tensor].end(), gradient, gradient + size);
  }
  void AllOf(size_t tensor, int64_t row, const float* gradient) override {
    all[tensor][row].assign(gradient, gradient + tensors_[tensor].cols());
  }
  std::map<size_t, std::vector<float>> stored;
  std::map<size_t, std::map<int64_t, std::vector<float>>> all;

 private:
  std::span<const RowTensor> tensors_;
};

// One linear layer of units × inputs with a bias.
class LayerGradientsTest : public ::testing::Test {
 protected:
  void Run(int64_t units, int64_t inputs, double density) {
    auto layout = std::make_shared<tensor::ModelLayout>();
    layout->push_back(tensor::CheckedTensor("weight", {units, inputs}).value());
    layout->push_back(tensor::CheckedTensor("bias", {units}).value());
    layout->front().sparsifiable = true;
    std::vector<std::shared_ptr<const tensor::Topology>> structure(2);
    if (density < 1) {
      const auto count = static_cast<int64_t>(density * static_cast<double>(units * inputs));
      structure[0] = std::make_shared<const tensor::Topology>(
          sparsity::RandomTopology(units, inputs, count, 1).value());
    }
    const auto topology = tensor::ModelTopology::Create(layout, structure).value();
    std::vector<float> values = Random(topology.total_stored(), 2);
    const std::vector<RowTensor> tensors = engine::RowTensorsOf(topology, values.data());
    Layers layers(topology, 0, kColumns, 2);
    layers.Add({{.units = units, .activation = engine::Activation::kLinear}}, inputs);
    ASSERT_TRUE(layers.status().ok()) << layers.status();
    const int64_t stride = layers.stride();
    const std::vector<float> x = Random(inputs * stride, 3);
    const engine::Pass pass =
        Layers::PassOf(tensors, {kColumns, engine::WholeLanes(kColumns)}, nullptr);
    const float* y = layers.Forward(0, pass, x.data());
    engine::Workspace::Lease delta(layers.workspace());
    std::vector<float> of_output = Random(units * stride, 4);
    for (int64_t row = 0; row < units; ++row) {
      std::fill_n(of_output.begin() + row * stride + kColumns, stride - kColumns, 0.0F);
    }
    std::ranges::copy(of_output, delta.data());
    RecordingSink sink(tensors);
    LayerGradients gradients(topology, tensors, stride, sink, 2);
    std::vector<float> dx(inputs * stride);
    layers.Backward(0, pass, x.data(), delta.data(), dx.data(), gradients.Target(pass.extent));
    Check(tensors, x, y, of_output, stride, sink);
  }

  static double Product(const std::vector<float>& a, int64_t row_a, const std::vector<float>& b,
                        int64_t row_b, int64_t stride) {
    double sum = 0;
    for (int64_t n = 0; n < kColumns; ++n) {
      sum += static_cast<double>(a[row_a * stride + n]) * b[row_b * stride + n];
    }
    return sum;
  }

  static void Check(std::span<const RowTensor> tensors, const std::vector<float>& x, const float* y,
                    const std::vector<float>& of_output, int64_t stride, RecordingSink& sink) {
    const RowTensor& weight = tensors[0];
    ASSERT_EQ(static_cast<int64_t>(sink.stored[0].size()), weight.stored());
    ASSERT_EQ(static_cast<int64_t>(sink.stored[1].size()), weight.rows());
    std::vector<float> row_of_weight(weight.cols());
    for (int64_t row = 0; row < weight.rows(); ++row) {
      weight.Expand(row, row_of_weight.data());
      double output = tensors[1].values()[row];
      for (int64_t i = 0; i < weight.cols(); ++i) output += row_of_weight[i] * x[i * stride];
      ASSERT_NEAR(y[row * stride], output, 1e-3);
      for (int64_t k = weight.begin(row); k < weight.begin(row + 1); ++k) {
        const int64_t col = weight.is_sparse() ? weight.topology().columns()[k] : k % weight.cols();
        ASSERT_NEAR(sink.stored[0][k], Product(of_output, row, x, col, stride), 1e-4);
      }
      if (!weight.is_sparse()) continue;
      ASSERT_EQ(static_cast<int64_t>(sink.all[0][row].size()), weight.cols());
      for (int64_t col = 0; col < weight.cols(); col += 7) {
        ASSERT_NEAR(sink.all[0][row][col], Product(of_output, row, x, col, stride), 1e-4);
      }
    }
    EXPECT_EQ(sink.all.size(), weight.is_sparse() ? 1U : 0U);
  }
};

// The engine gives 131 rows at a time.
TEST_F(LayerGradientsTest, PiecesEndWithinGroups) { Run(300, 1000, 1); }
// The engine gives 4096 columns at a time.
TEST_F(LayerGradientsTest, RowsAreWiderThanTiles) { Run(70, 4500, 0.05); }
TEST_F(LayerGradientsTest, AllIsOnePiece) { Run(9, 5, 1); }

TEST(LayersTest, TensorsOfAnotherShapeAreAnError) {
  const v1::RecommenderSpec spec = SmallSpec("neumf { dimensions: 5 hidden: 7 }");
  const auto topology = MakeTopology(spec, 1);
  Layers layers(*topology, 2, kColumns, 1);
  layers.Add({{.units = 8}}, 10);
  EXPECT_EQ(layers.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace espalier::worker::recommender
