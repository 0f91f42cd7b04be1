// A small model and a folder, for tests of checkpoints.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/checkpoint/checkpoint_file.h"
#include "common/io/file_system.h"
#include "common/sparsity/random_topology.h"
#include "common/tensor/model.h"
#include "tests/support/failing_file_system.h"

namespace espalier::checkpoint {

using test::FailingFileSystem;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = ::testing::TempDir() + "/espalier_checkpoint_" + std::to_string(getpid()) + "_" +
                 info->name();
    std::filesystem::remove_all(directory_);
    ASSERT_TRUE(files_.CreateDirectories(directory_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Two sparse matrices (one with a single column) of the given number of weights, two dense
  // tensors.
  static tensor::ModelState SomeState(int64_t nnz, int64_t nnz_of_column, float scale = 1.0f) {
    auto layout = std::make_shared<const tensor::ModelLayout>(
        tensor::ModelLayout{{"layers.0.weight", {20, 30}, 20, 30, true},
                            {"layers.0.bias", {20}, 20, 1, false},
                            {"layers.1.weight", {7, 1}, 7, 1, true},
                            {"layers.2.weight", {3, 2, 2}, 3, 4, false}});
    std::vector<std::shared_ptr<const tensor::Topology>> topologies(4);
    topologies[0] =
        std::make_shared<const tensor::Topology>(sparsity::RandomTopology(20, 30, nnz, 1).value());
    topologies[2] = std::make_shared<const tensor::Topology>(
        sparsity::RandomTopology(7, 1, nnz_of_column, 2).value());
    tensor::ModelState state;
    state.topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout, std::move(topologies)).value());
    for (int64_t i = 0; i < state.topology->total_stored(); ++i) {
      state.values.push_back(scale * (static_cast<float>(i) - 20.5f) / 7);
    }
    return state;
  }

  static CheckpointMetadata SomeMetadata(const std::string& job, int32_t round,
                                         std::optional<double> accuracy = std::nullopt) {
    CheckpointMetadata metadata;
    metadata.job = job;
    metadata.round = round;
    metadata.model_spec.set_input_features(30);
    metadata.model_spec.add_layers()->mutable_linear()->set_units(20);
    metadata.main_metric_name = "accuracy";
    metadata.main_metric = accuracy;
    metadata.create_time = absl::FromUnixMillis(1'700'000'000'123);
    return metadata;
  }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  io::FileSystem& files_ = io::PosixFileSystem();
  std::string directory_;
};

}  // namespace espalier::checkpoint
