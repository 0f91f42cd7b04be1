#include "server/checkpoint/checkpoint_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "common/config/metrics.h"
#include "common/io/atomic_file.h"

namespace espalier::server::checkpoint {
namespace {

constexpr std::string_view kNamePrefix = "checkpoints/";
constexpr std::string_view kFileSuffix = ".safetensors";
constexpr size_t kMaxJobIdBytes = 63;
// Where a language model is written before it gets its name.
constexpr const char* kWorkFolder = "/language.work";

bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

CheckpointInfo MakeInfo(const CheckpointMetadata& metadata, double density,
                        const WrittenFile& file) {
  CheckpointInfo info;
  info.name = fmt::format("{}{}-{}", kNamePrefix, metadata.job, metadata.round);
  info.job = metadata.job;
  info.round = metadata.round;
  info.run = metadata.run;
  info.owner = metadata.owner;
  info.size_bytes = file.size_bytes;
  info.sha256 = file.sha256;
  info.main_metric_name = metadata.main_metric_name;
  info.main_metric = metadata.main_metric;
  info.density = density;
  info.create_time = metadata.create_time;
  return info;
}

absl::Status InvalidName(std::string_view what, std::string_view found) {
  return base::InvalidArgument("INVALID_NAME", fmt::format("expected {}, found '{}'", what, found));
}

}  // namespace

bool IsValidJobId(std::string_view job) {
  return !job.empty() && job.size() <= kMaxJobIdBytes && job.front() >= 'a' && job.front() <= 'z' &&
         job.back() != '-' &&
         std::all_of(job.begin(), job.end(), [](char c) { return IsLowerAlnum(c) || c == '-'; });
}

std::string CheckpointStore::FileName(const Key& key) {
  return fmt::format("{}-{}{}", key.job, key.round, kFileSuffix);
}

std::optional<CheckpointStore::Key> CheckpointStore::ParseFileName(std::string_view file) {
  if (!file.ends_with(kFileSuffix)) {
    return std::nullopt;
  }
  const std::string_view stem = file.substr(0, file.size() - kFileSuffix.size());
  const size_t dash = stem.rfind('-');
  if (dash == std::string_view::npos || !IsValidJobId(stem.substr(0, dash))) {
    return std::nullopt;
  }
  Key key{std::string(stem.substr(0, dash)), 0};
  const char* end = stem.data() + stem.size();
  const auto number = std::from_chars(stem.data() + dash + 1, end, key.round);
  // The comparison refuses other spellings of the same number, such as leading zeros.
  if (number.ec != std::errc() || number.ptr != end || key.round < 0 || FileName(key) != file) {
    return std::nullopt;
  }
  return key;
}

std::string CheckpointStore::PathOf(const Key& key) const {
  return directory_ + "/" + FileName(key);
}

absl::StatusOr<std::unique_ptr<CheckpointStore>> CheckpointStore::Open(io::FileSystem& files,
                                                                       std::string directory) {
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(directory));
  std::unique_ptr<CheckpointStore> store(new CheckpointStore(files, std::move(directory)));
  ESPALIER_RETURN_IF_ERROR(store->Scan());
  return store;
}

absl::Status CheckpointStore::Scan() {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files_.List(directory_));
  for (const std::string& name : names) {
    if (name.ends_with(io::AtomicFile::kTemporarySuffix)) {
      // A folder of that name, for instance, is nothing that a crash left.
      const absl::Status removed = files_.Remove(directory_ + "/" + name);
      if (!removed.ok()) damaged_.push_back({name, removed});
    } else if (name.ends_with(kFileSuffix)) {
      AddFile(name);
    } else if ("/" + name == kWorkFolder) {
      RemoveLeftovers(directory_ + kWorkFolder);
    }
  }
  return absl::OkStatus();
}

// Of a process that was killed while it wrote a language model. What cannot be removed does no harm.
void CheckpointStore::RemoveLeftovers(const std::string& folder) {
  const auto names = files_.List(folder);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    std::string path = folder;
    path += "/" + name;
    (void)files_.Remove(path);
  }
}

void CheckpointStore::AddFile(const std::string& file) {
  const std::optional<Key> key = ParseFileName(file);
  if (!key.has_value()) {
    damaged_.push_back({file, InvalidName("a file named {job}-{round}.safetensors", file)});
    return;
  }
  const auto summary = espalier::checkpoint::VerifyCheckpointFile(files_, directory_ + "/" + file);
  if (!summary.ok()) {
    damaged_.push_back({file, summary.status()});
    return;
  }
  if (summary->metadata.job != key->job || summary->metadata.round != key->round) {
    damaged_.push_back(
        {file, InvalidName(fmt::format("the file of job {} round {}", summary->metadata.job,
                                       summary->metadata.round),
                           file)});
    return;
  }
  const base::MutexLock lock(mutex_);
  index_[*key] = MakeInfo(summary->metadata, summary->density, summary->file);
}

absl::Status CheckpointStore::CheckName(const CheckpointMetadata& metadata) {
  if (!IsValidJobId(metadata.job)) {
    return InvalidName("a job id of lower-case letters, digits and '-'", metadata.job);
  }
  if (metadata.round < 0) {
    return InvalidName("a round of at least 0", std::to_string(metadata.round));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointInfo> CheckpointStore::WriteLanguageModel(
    const CheckpointMetadata& metadata, double density, const LanguageWriter& write) {
  ESPALIER_RETURN_IF_ERROR(CheckName(metadata));
  const Key key{metadata.job, metadata.round};
  const base::MutexLock one(language_mutex_);
  const std::string work = directory_ + kWorkFolder;
  ESPALIER_RETURN_IF_ERROR(
      write(files_, work, espalier::checkpoint::EncodeLanguageMetadata(metadata, density)));
  ESPALIER_ASSIGN_OR_RETURN(
      const WrittenFile file,
      espalier::checkpoint::AdoptLanguageFile(files_, work + "/model.safetensors", PathOf(key)));
  for (const char* name : {"/model.safetensors", "/config.json"}) {
    ESPALIER_RETURN_IF_ERROR(files_.Remove(work + name));
  }
  CheckpointInfo info = MakeInfo(metadata, density, file);
  const base::MutexLock lock(mutex_);
  index_[key] = info;
  return info;
}

absl::StatusOr<CheckpointInfo> CheckpointStore::Write(const tensor::ModelState& state,
                                                      const CheckpointMetadata& metadata,
                                                      std::span<const AttachedFile> attached) {
  ESPALIER_RETURN_IF_ERROR(CheckName(metadata));
  const Key key{metadata.job, metadata.round};
  ESPALIER_ASSIGN_OR_RETURN(
      const WrittenFile file,
      espalier::checkpoint::WriteCheckpointFile(files_, PathOf(key), state, metadata, attached));
  CheckpointInfo info = MakeInfo(metadata, espalier::checkpoint::Density(*state.topology), file);
  const base::MutexLock lock(mutex_);
  index_[key] = info;
  return info;
}

std::vector<CheckpointInfo> CheckpointStore::List(std::string_view job) const {
  const base::MutexLock lock(mutex_);
  std::vector<CheckpointInfo> infos;
  for (const auto& [key, info] : index_) {
    if (job.empty() || key.job == job) {
      infos.push_back(info);
    }
  }
  return infos;
}

absl::StatusOr<CheckpointStore::Key> CheckpointStore::Find(std::string_view name) const {
  std::optional<Key> key;
  if (name.starts_with(kNamePrefix)) {
    key = ParseFileName(std::string(name.substr(kNamePrefix.size())) + std::string(kFileSuffix));
  }
  if (!key.has_value()) {
    return InvalidName("a checkpoint name checkpoints/{job}-{round}", name);
  }
  const base::MutexLock lock(mutex_);
  if (!index_.contains(*key)) {
    return base::NotFound(
        "CHECKPOINT_NOT_FOUND",
        fmt::format("there is no checkpoint '{}'; see `espalier checkpoint list`", name));
  }
  return *std::move(key);
}

int64_t CheckpointStore::BytesOf(std::string_view owner) const {
  const base::MutexLock lock(mutex_);
  int64_t bytes = 0;
  for (const auto& [key, info] : index_) {
    if (info.owner == owner) bytes += static_cast<int64_t>(info.size_bytes);
  }
  return bytes;
}

absl::StatusOr<CheckpointInfo> CheckpointStore::Get(std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  const base::MutexLock lock(mutex_);
  const auto found = index_.find(key);
  if (found == index_.end()) {
    return base::NotFound("CHECKPOINT_NOT_FOUND",
                          fmt::format("the checkpoint '{}' was removed", name));
  }
  return found->second;
}

absl::StatusOr<std::unique_ptr<io::ReadableFile>> CheckpointStore::OpenFile(
    std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  return files_.Open(PathOf(key));
}

absl::StatusOr<LoadedCheckpoint> CheckpointStore::Load(std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  return espalier::checkpoint::ReadCheckpointFile(files_, PathOf(key));
}

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointStore::OpenNetwork(
    std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  return CheckpointReader::Open(files_, PathOf(key));
}

absl::StatusOr<CheckpointMetadata> CheckpointStore::ReadMetadata(std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  return espalier::checkpoint::ReadCheckpointMetadata(files_, PathOf(key));
}

absl::StatusOr<std::string> CheckpointStore::FilePath(std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  return PathOf(key);
}

absl::Status CheckpointStore::Remove(const std::vector<std::string>& names) {
  std::vector<Key> keys;
  for (const std::string& name : names) {
    ESPALIER_ASSIGN_OR_RETURN(keys.emplace_back(), Find(name));
  }
  // Out of the index first: what is listed can be opened. What could not be removed comes back.
  Index removed;
  {
    const base::MutexLock lock(mutex_);
    for (const std::string& name : names) {
      if (!in_use_.contains(name)) continue;
      return base::FailedPrecondition(
          "CHECKPOINT_IN_USE",
          fmt::format("expected checkpoints that no job in work starts from, found '{}', from "
                      "which one does; wait until it has ended, or cancel it",
                      name));
    }
    for (const Key& key : keys) {
      if (auto node = index_.extract(key)) removed.insert(std::move(node));
    }
  }
  while (!removed.empty()) {
    const absl::Status status = files_.Remove(PathOf(removed.begin()->first));
    if (!status.ok()) {
      const base::MutexLock lock(mutex_);
      index_.merge(removed);
      return status;
    }
    removed.erase(removed.begin());
  }
  return files_.SyncDirectory(directory_);
}

absl::Status CheckpointStore::Verify(std::string_view name) const {
  ESPALIER_ASSIGN_OR_RETURN(const CheckpointInfo info, Get(name));
  ESPALIER_ASSIGN_OR_RETURN(const Key key, Find(name));
  const auto summary = espalier::checkpoint::VerifyCheckpointFile(files_, PathOf(key));
  if (summary.ok() && summary->file.sha256 == info.sha256) return absl::OkStatus();
  // It may have been removed or written anew meanwhile.
  ESPALIER_ASSIGN_OR_RETURN(const CheckpointInfo now, Get(name));
  if (now.sha256 != info.sha256) return Verify(name);
  const std::string found =
      summary.ok() ? "one of other contents" : base::MessageOf(summary.status());
  return base::MakeError(
      absl::StatusCode::kDataLoss, "CHECKPOINT_CORRUPT",
      fmt::format("expected the file of {} as it was written, found {}; put a copy of {} in its "
                  "place, or remove it with `espalier checkpoint delete`",
                  name, found, PathOf(key)));
}

CheckpointStore::Pin CheckpointStore::Use(std::string_view name) {
  const base::MutexLock lock(mutex_);
  ++in_use_[std::string(name)];
  return {nullptr, [this, name = std::string(name)](std::nullptr_t) {
            const base::MutexLock lock(mutex_);
            if (--in_use_[name] == 0) in_use_.erase(name);
          }};
}

std::vector<CheckpointStore::Key> CheckpointStore::Superfluous(std::string_view job,
                                                               int32_t keep) const {
  struct Run {
    std::optional<Key> best;
    double best_value = 0;
    int32_t seen = 0;
  };
  const base::MutexLock lock(mutex_);
  std::map<std::string, Run> runs;
  std::vector<Key> old;
  for (const auto& [key, info] : index_) {
    if (key.job != job) {
      continue;
    }
    Run& run = runs[info.run];
    // Rounds fall, so that of equal ones the earlier round is taken.
    if (info.main_metric.has_value() &&
        (!run.best.has_value() ||
         !config::IsBetter(info.main_metric_name, run.best_value, *info.main_metric))) {
      run.best = key;
      run.best_value = *info.main_metric;
    }
    if (++run.seen > keep) {
      old.push_back(key);
    }
  }
  std::erase_if(old, [&](const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const CheckpointInfo& info = index_.at(key);
    const std::optional<Key>& best = runs[info.run].best;
    return in_use_.contains(info.name) || (best.has_value() && key.round == best->round);
  });
  return old;
}

absl::StatusOr<std::vector<std::string>> CheckpointStore::Prune(std::string_view job,
                                                                int32_t keep) {
  ESPALIER_CHECK(keep >= 1, "at least one checkpoint is kept");
  std::vector<std::string> removed;
  for (const Key& key : Superfluous(job, keep)) {
    // Out of the index first: what is listed can be opened. What could not be removed comes back.
    Index::node_type node;
    {
      const base::MutexLock lock(mutex_);
      const auto found = index_.find(key);
      // Removed by somebody else, or in use by now.
      if (found == index_.end() || in_use_.contains(found->second.name)) continue;
      node = index_.extract(found);
    }
    if (const absl::Status status = files_.Remove(PathOf(key)); !status.ok()) {
      const base::MutexLock lock(mutex_);
      index_.insert(std::move(node));
      return status;
    }
    removed.push_back(node.mapped().name);
  }
  if (!removed.empty()) {
    ESPALIER_RETURN_IF_ERROR(files_.SyncDirectory(directory_));
  }
  return removed;
}

}  // namespace espalier::server::checkpoint
