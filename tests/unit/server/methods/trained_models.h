// Checkpoints in a folder of their own, for jobs that begin with a trained model.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/structure.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class TrainedModels {
 public:
  explicit TrainedModels(const std::string& name)
      : folder_(testing::TempDir() + "/espalier_trained_" + std::to_string(getpid()) + name) {
    std::filesystem::create_directories(folder_);
    store_ = checkpoint::CheckpointStore::Open(io::PosixFileSystem(), folder_).value();
    library_ = std::make_shared<const pretrained::ModelLibrary>(io::PosixFileSystem(), "", folder_,
                                                                *store_);
  }
  ~TrainedModels() { std::filesystem::remove_all(folder_); }
  TrainedModels(const TrainedModels&) = delete;
  TrainedModels& operator=(const TrainedModels&) = delete;

  const std::shared_ptr<const pretrained::ModelLibrary>& library() const { return library_; }
  std::string path(const std::string& checkpoint) const {
    return folder_ + "/" + checkpoint + ".safetensors";
  }

  // Writes checkpoints/first-7 of the model, with normal values in a structure of this
  // density.
  tensor::ModelState Write(const v1::ModelSpec& model, double density = 1) {
    const auto layout = wire::LayoutOf(model).value();
    tensor::ModelState state;
    auto structure =
        RandomStructure(*layout, {.distribution = "uniform", .density = density}, /*seed=*/3);
    state.topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout, std::move(structure).value()).value());
    base::Rng rng(3);
    for (int64_t i = 0; i < state.topology->total_stored(); ++i) {
      state.values.push_back(static_cast<float>(rng.Normal()));
    }
    Write(state, model);
    return state;
  }
  // With the optimizer's state where `optimizer` says what that is.
  void Write(const tensor::ModelState& state, const v1::ModelSpec& model,
             std::optional<espalier::checkpoint::SavedOptimizer> optimizer = std::nullopt) {
    checkpoint::CheckpointMetadata metadata;
    metadata.job = "first";
    metadata.round = 7;
    metadata.model_spec = model;
    metadata.optimizer = std::move(optimizer);
    EXPECT_TRUE(store_->Write(state, metadata).ok());
  }

 private:
  std::string folder_;
  std::unique_ptr<checkpoint::CheckpointStore> store_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

}  // namespace espalier::server::methods
