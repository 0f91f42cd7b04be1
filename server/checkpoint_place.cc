#include "server/checkpoint_place.h"

#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/io/guarded_file_system.h"
#include "common/log/log.h"
#include "server/object_store/mirrored_file_system.h"
#include "server/object_store/s3_file_system.h"
#include "server/object_store/s3_options.h"

namespace espalier::server {
namespace {

constexpr auto kBetweenLooks = std::chrono::seconds(5);
constexpr const char* kDirectory = "checkpoints";
constexpr const char* kSuffix = ".safetensors";
// Of requests that move little. Jobs wait for them, and are to say so soon.
constexpr absl::Duration kBucketAnswer = absl::Seconds(10);
constexpr int kBucketAttempts = 3;

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
  options.request_timeout = kBucketAnswer;
  options.attempts = kBucketAttempts;
  std::unique_ptr<CheckpointPlace> place(new CheckpointPlace(flags.data_dir + "/checkpoints"));
  ESPALIER_ASSIGN_OR_RETURN(place->bucket_, object_store::OpenS3FileSystem(std::move(options)));
  place->guarded_bucket_ = std::make_unique<io::GuardedFileSystem>(
      *place->bucket_, [&tenure] { return tenure.MayChange(); }, RandomId(entropy));
  place->mirror_ = std::make_unique<object_store::MirroredFileSystem>(
      io::PosixFileSystem(), *place->guarded_bucket_,
      object_store::MirroredFileSystem::Options{
          .root = flags.data_dir,
          .directory = kDirectory,
          .suffix = kSuffix,
          .bucket = flags.checkpoints,
          .new_id = [&entropy] { return RandomId(entropy); }});
  place->files_ = place->mirror_.get();
  return place;
}

void CheckpointPlace::Follow() {
  if (mirror_ == nullptr) return;
  follower_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const auto pulled = mirror_->Prefetch(stop);
      if (stop.stop_requested()) return;
      if (!pulled.ok()) {
        log::Warning("checkpoints_not_fetched", {{"message", base::MessageOf(pulled.status())}});
      } else if (pulled->fetched > 0) {
        log::Info("checkpoints_fetched", {{"files", pulled->fetched}});
      }
      base::SleepUnlessStopped(kBetweenLooks, stop);
    }
  });
}

absl::StatusOr<std::unique_ptr<checkpoint::CheckpointStore>> CheckpointPlace::Open() {
  if (follower_.joinable()) {
    follower_.request_stop();
    follower_.join();
  }
  if (mirror_ != nullptr) ESPALIER_RETURN_IF_ERROR(Pull());
  ESPALIER_ASSIGN_OR_RETURN(auto checkpoints,
                            checkpoint::CheckpointStore::Open(*files_, directory_));
  ESPALIER_ASSIGN_OR_RETURN(const bool mended, Mend(*checkpoints));
  if (mended) {
    ESPALIER_ASSIGN_OR_RETURN(checkpoints, checkpoint::CheckpointStore::Open(*files_, directory_));
  }
  for (const auto& damaged : checkpoints->damaged()) {
    log::Warning("checkpoint_unusable",
                 {{"file", damaged.file}, {"message", base::MessageOf(damaged.reason)}});
  }
  return checkpoints;
}

absl::Status CheckpointPlace::Pull() {
  ESPALIER_ASSIGN_OR_RETURN(const auto pulled, mirror_->Pull());
  log::Info("checkpoints_in_bucket", {{"fetched", pulled.fetched},
                                      {"removed", pulled.removed},
                                      {"put_aside", pulled.put_aside},
                                      {"sent", pulled.sent}});
  if (pulled.put_aside > 0) {
    log::Warning("checkpoints_put_aside",
                 {{"folder", directory_ + "/not-in-bucket"}, {"files", pulled.put_aside}});
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> CheckpointPlace::Mend(const checkpoint::CheckpointStore& checkpoints) {
  bool any = false;
  for (const auto& damaged : checkpoints.damaged()) {
    if (mirror_ == nullptr) break;
    ESPALIER_ASSIGN_OR_RETURN(const bool mended, mirror_->Mend(damaged.file));
    if (mended) log::Info("checkpoint_fetched_again", {{"file", damaged.file}});
    any = any || mended;
  }
  return any;
}

}  // namespace espalier::server
