#include "server/methods/start/dense_source.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/initial_values.h"
#include "server/pretrained/same_network.h"

namespace espalier::server::methods {
namespace {

constexpr int64_t kBlock = 4096;

// Initial values of a model that stores all positions.
class RandomSource : public DenseSource {
 public:
  RandomSource(std::vector<wire::ModelTensor> tensors, uint64_t seed)
      : tensors_(std::move(tensors)), seed_(seed) {}

  absl::Status Read(size_t tensor, const Sink& sink) const override {
    const int64_t size = tensors_[tensor].spec.size();
    InitialStream stream(tensors_[tensor], tensor, size, seed_);
    std::vector<float> block(std::min(size, kBlock));
    for (int64_t done = 0; done < size;) {
      const auto piece = std::span(block).first(std::min(kBlock, size - done));
      std::ranges::generate(piece, [&] { return stream.Next(); });
      sink(piece);
      done += static_cast<int64_t>(piece.size());
    }
    return absl::OkStatus();
  }

 private:
  std::vector<wire::ModelTensor> tensors_;
  uint64_t seed_;
};

class CheckpointSource : public DenseSource {
 public:
  explicit CheckpointSource(std::unique_ptr<checkpoint::CheckpointReader> reader)
      : reader_(std::move(reader)) {}
  absl::Status Read(size_t tensor, const Sink& sink) const override {
    return reader_->ReadDense(tensor, sink);
  }

 private:
  std::unique_ptr<checkpoint::CheckpointReader> reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DenseSource>> OpenDenseSource(
    const v1::ModelSpec& spec, uint64_t seed, const pretrained::ModelLibrary* library) {
  if (spec.pretrained().empty()) {
    ESPALIER_ASSIGN_OR_RETURN(std::vector<wire::ModelTensor> tensors, wire::TensorsOf(spec));
    return std::make_unique<RandomSource>(std::move(tensors), seed);
  }
  if (library == nullptr) {
    return base::FailedPrecondition(
        "MODELS_UNSET",
        "expected a coordinator that keeps checkpoints, found none; remove "
        "model.pretrained");
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec));
  ESPALIER_ASSIGN_OR_RETURN(auto reader, library->OpenNetwork(spec.pretrained()));
  ESPALIER_RETURN_IF_ERROR(pretrained::CheckDenseNetwork(*layout, *reader));
  ESPALIER_RETURN_IF_ERROR(reader->Verify());
  return std::make_unique<CheckpointSource>(std::move(reader));
}

}  // namespace espalier::server::methods
