#include "server/methods/start/dense_source.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/language/named_tensors.h"
#include "common/wire/model_spec/families/model_family.h"
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

  absl::StatusOr<int64_t> Stored(size_t tensor) const override {
    return tensors_[tensor].spec.size();
  }
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
  absl::StatusOr<std::shared_ptr<const tensor::Topology>> Structure(size_t tensor) const override {
    return reader_->ReadStructure(tensor);
  }
  absl::StatusOr<int64_t> Stored(size_t tensor) const override { return reader_->Stored(tensor); }

 private:
  std::unique_ptr<checkpoint::CheckpointReader> reader_;
};

// A language model's, from a folder in Hugging Face's layout or from a checkpoint. A folder has the
// zeros of a pruned layer among its weights: what is not zero counts as stored.
class LanguageSource : public DenseSource {
 public:
  LanguageSource(std::shared_ptr<const tensor::ModelLayout> layout,
                 std::unique_ptr<language::CheckpointReader> reader, bool from_folder)
      : layout_(std::move(layout)),
        reader_(std::move(reader)),
        tensors_(*reader_),
        from_folder_(from_folder) {}

  absl::Status Read(size_t tensor, const Sink& sink) const override {
    ESPALIER_ASSIGN_OR_RETURN(language::NamedTensors::Values read,
                              tensors_.Read((*layout_)[tensor].name));
    if (read.topology != nullptr) {
      std::vector<float> dense(static_cast<size_t>(read.topology->size()), 0.0F);
      const std::vector<int64_t> positions = read.topology->Positions();
      for (size_t k = 0; k < positions.size(); ++k) dense[positions[k]] = read.values[k];
      read.values = std::move(dense);
    }
    const std::span<const float> values = read.values;
    constexpr size_t kPiece = (size_t{1} << 20) / sizeof(float);
    for (size_t done = 0; done < values.size(); done += kPiece) {
      sink(values.subspan(done, std::min(kPiece, values.size() - done)));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const tensor::Topology>> Structure(size_t tensor) const override {
    ESPALIER_ASSIGN_OR_RETURN(language::NamedTensors::Values read,
                              tensors_.Read((*layout_)[tensor].name));
    if (read.topology != nullptr || !from_folder_) return std::move(read.topology);
    std::vector<int64_t> positions;
    for (size_t i = 0; i < read.values.size(); ++i) {
      if (read.values[i] != 0) positions.push_back(static_cast<int64_t>(i));
    }
    const tensor::TensorSpec& spec = (*layout_)[tensor];
    if (static_cast<int64_t>(positions.size()) == spec.size()) return nullptr;
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                              tensor::Topology::FromPositions(spec.rows, spec.cols, positions));
    return std::make_shared<const tensor::Topology>(std::move(topology));
  }
  absl::StatusOr<int64_t> Stored(size_t tensor) const override {
    return tensors_.Stored((*layout_)[tensor].name);
  }
  absl::StatusOr<std::shared_ptr<const pretrained::Companions>> Companions(
      pretrained::PartStore& parts) const override {
    auto companions = std::make_shared<pretrained::Companions>();
    for (const language::CompanionFile& file : reader_->companions()) {
      ESPALIER_ASSIGN_OR_RETURN(pretrained::Part part, parts.Put(file.bytes));
      companions->files.emplace_back(file.name, std::move(part));
    }
    return companions;
  }

 private:
  std::shared_ptr<const tensor::ModelLayout> layout_;
  std::unique_ptr<language::CheckpointReader> reader_;
  language::NamedTensors tensors_;
  bool from_folder_;
};

absl::StatusOr<std::unique_ptr<DenseSource>> OpenLanguageSource(
    const v1::ModelSpec& spec, const pretrained::ModelLibrary& library, TrainedForm form) {
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec));
  ESPALIER_ASSIGN_OR_RETURN(auto reader, library.OpenLanguageModel(spec.pretrained()));
  ESPALIER_RETURN_IF_ERROR(form == TrainedForm::kDense
                               ? pretrained::CheckDenseLanguageModel(spec.transformer(), *reader)
                               : pretrained::CheckLanguageModel(spec.transformer(), *reader));
  return std::make_unique<LanguageSource>(std::move(layout), std::move(reader),
                                          !pretrained::IsCheckpointName(spec.pretrained()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DenseSource>> OpenDenseSource(
    const v1::ModelSpec& spec, uint64_t seed, const pretrained::ModelLibrary* library,
    TrainedForm form) {
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
  if (wire::FamilyOf(spec).comes_in_folders()) return OpenLanguageSource(spec, *library, form);
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec));
  ESPALIER_ASSIGN_OR_RETURN(auto reader, library->OpenNetwork(spec.pretrained()));
  ESPALIER_RETURN_IF_ERROR(form == TrainedForm::kDense
                               ? pretrained::CheckDenseNetwork(*layout, *reader)
                               : pretrained::CheckNetwork(*layout, *reader));
  if (form != TrainedForm::kHeader) ESPALIER_RETURN_IF_ERROR(reader->Verify());
  return std::make_unique<CheckpointSource>(std::move(reader));
}

}  // namespace espalier::server::methods
