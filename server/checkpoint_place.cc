#include "server/checkpoint_place.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/guarded_file_system.h"
#include "common/log/log.h"
#include "server/object_store/mirrored_file_system.h"
#include "server/object_store/s3_file_system.h"
#include "server/object_store/s3_options.h"

namespace espalier::server {
namespace {

constexpr auto kBetweenLooks = std::chrono::seconds(5);
constexpr uint64_t kMaxIdBytes = 256;

// A name for the folder that no other one has, kept in it.
absl::StatusOr<std::string> FolderId(const std::string& directory, base::Entropy& entropy) {
  io::FileSystem& files = io::PosixFileSystem();
  const std::string path = directory + "/mirror-id";
  auto id = io::ReadFile(files, path, kMaxIdBytes);
  if (id.ok() || !absl::IsNotFound(id.status())) return id;
  const std::string made = RandomId(entropy);
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file, io::AtomicFile::Create(files, path));
  ESPALIER_RETURN_IF_ERROR(file.Append(made));
  ESPALIER_RETURN_IF_ERROR(file.Commit());
  return made;
}

}  // namespace

CheckpointPlace::CheckpointPlace(std::string directory) : directory_(std::move(directory)) {}

CheckpointPlace::~CheckpointPlace() = default;

absl::StatusOr<std::unique_ptr<CheckpointPlace>> CheckpointPlace::Make(const Flags& flags,
                                                                       Tenure& tenure,
                                                                       base::Entropy& entropy) {
  if (flags.checkpoints.empty()) {
    std::unique_ptr<CheckpointPlace> place(
        new CheckpointPlace(tenure.shared_dir() + "/checkpoints"));
    place->files_ = &tenure.files();
    return place;
  }
  ESPALIER_ASSIGN_OR_RETURN(const object_store::S3Location location,
                            object_store::ParseS3Url(flags.checkpoints));
  ESPALIER_ASSIGN_OR_RETURN(object_store::S3Options options,
                            object_store::S3OptionsFromEnvironment(location));
  options.spool_directory = flags.data_dir + "/spool";
  ESPALIER_ASSIGN_OR_RETURN(const std::string id, FolderId(flags.data_dir, entropy));
  std::unique_ptr<CheckpointPlace> place(new CheckpointPlace(flags.data_dir + "/checkpoints"));
  ESPALIER_ASSIGN_OR_RETURN(place->bucket_, object_store::OpenS3FileSystem(std::move(options)));
  place->guarded_bucket_ = std::make_unique<io::GuardedFileSystem>(
      *place->bucket_, [&tenure] { return tenure.MayChange(); }, id);
  place->mirror_ = std::make_unique<object_store::MirroredFileSystem>(
      io::PosixFileSystem(), *place->guarded_bucket_, flags.data_dir, id);
  place->files_ = place->mirror_.get();
  return place;
}

void CheckpointPlace::Follow() {
  if (mirror_ == nullptr) return;
  follower_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      const auto pulled = mirror_->Prefetch(directory_, stop);
      if (!pulled.ok()) {
        log::Warning("checkpoints_not_fetched", {{"message", base::MessageOf(pulled.status())}});
      } else if (pulled->fetched > 0) {
        log::Info("checkpoints_fetched", {{"files", pulled->fetched}});
      }
      wake.wait_for(lock, stop, kBetweenLooks, [] { return false; });
    }
  });
}

absl::StatusOr<std::unique_ptr<checkpoint::CheckpointStore>> CheckpointPlace::Open() {
  if (follower_.joinable()) {
    follower_.request_stop();
    follower_.join();
  }
  if (mirror_ != nullptr) {
    ESPALIER_ASSIGN_OR_RETURN(const auto pulled, mirror_->Pull(directory_));
    log::Info("checkpoints_in_bucket",
              {{"fetched", pulled.fetched}, {"removed", pulled.removed}, {"sent", pulled.sent}});
  }
  ESPALIER_ASSIGN_OR_RETURN(auto checkpoints,
                            checkpoint::CheckpointStore::Open(*files_, directory_));
  for (const auto& damaged : checkpoints->damaged()) {
    log::Warning("checkpoint_unusable",
                 {{"file", damaged.file}, {"message", base::MessageOf(damaged.reason)}});
  }
  return checkpoints;
}

}  // namespace espalier::server
