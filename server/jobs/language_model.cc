#include "server/jobs/language_model.h"

#include <utility>

#include "common/base/status.h"
#include "common/language/checkpoint_writer.h"

namespace espalier::server::jobs {
namespace {

std::shared_ptr<const round::Blob> BlobOf(const pretrained::Part& part,
                                          const std::shared_ptr<const round::Blob>& previous,
                                          const std::shared_ptr<round::Traffic>& traffic,
                                          round::BlobStore& blobs) {
  if (previous != nullptr && previous->digest == part.digest) return previous;
  return blobs.PutFile(part.digest, part.file, traffic);
}

v1::BlobRef RefTo(const round::Blob& blob) {
  v1::BlobRef ref;
  ref.set_digest(blob.digest);
  ref.set_size_bytes(blob.bytes().size());
  return ref;
}

}  // namespace

std::shared_ptr<const PublishedLanguageModel> PublishLanguageModel(
    std::shared_ptr<const methods::LanguageModel> model, const PublishedLanguageModel* previous,
    const std::shared_ptr<round::Traffic>& traffic, round::BlobStore& blobs) {
  if (model == nullptr) return nullptr;
  auto published = std::make_shared<PublishedLanguageModel>();
  const auto before = [&](size_t i) { return previous != nullptr ? previous->blobs[i] : nullptr; };
  published->blobs.push_back(BlobOf(model->outer, before(0), traffic, blobs));
  for (size_t b = 0; b < model->blocks.size(); ++b) {
    published->blobs.push_back(BlobOf(model->blocks[b], before(b + 1), traffic, blobs));
  }
  published->model = std::move(model);
  return published;
}

void ReferTo(const PublishedLanguageModel& published, v1::LanguageModelRef& ref) {
  ref.set_config_json(published.model->config.json);
  *ref.mutable_outer() = RefTo(*published.blobs.front());
  for (size_t i = 1; i < published.blobs.size(); ++i)
    *ref.add_blocks() = RefTo(*published.blobs[i]);
}

absl::StatusOr<checkpoint::CheckpointInfo> WriteLanguageCheckpoint(
    const methods::LanguageModel& model, const checkpoint::CheckpointMetadata& metadata,
    checkpoint::CheckpointStore& checkpoints) {
  const double density = static_cast<double>(model.active_weights()) /
                         static_cast<double>(std::max<int64_t>(1, model.linear_weights()));
  const auto write = [&](io::FileSystem& files, const std::string& directory,
                         std::map<std::string, std::string> strings) -> absl::Status {
    strings["config"] = model.config.json;
    ESPALIER_ASSIGN_OR_RETURN(const auto writer, language::CheckpointWriter::Create(
                                                     files, directory, model.config,
                                                     {.format = language::CheckpointFormat::kSparse,
                                                      .metadata = std::move(strings)}));
    {
      ESPALIER_ASSIGN_OR_RETURN(const language::OuterWeights outer,
                                language::DecodeOuter(model.outer.bytes(), model.config));
      ESPALIER_RETURN_IF_ERROR(writer->WriteOuter(outer));
    }
    for (const pretrained::Part& part : model.blocks) {
      ESPALIER_ASSIGN_OR_RETURN(const language::BlockWeights block,
                                language::DecodeBlock(part.bytes(), model.config));
      ESPALIER_RETURN_IF_ERROR(writer->WriteBlock(block));
    }
    for (const auto& [name, part] : model.companions) {
      ESPALIER_RETURN_IF_ERROR(writer->WriteCompanion({name, part.bytes()}));
    }
    return writer->Finish();
  };
  return checkpoints.WriteLanguageModel(metadata, density, write);
}

}  // namespace espalier::server::jobs
