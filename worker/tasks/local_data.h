// LocalData: a worker's data sets and the shards they are divided into, kept between rounds.
//
// Memory:    at most one data set and kKeptShards index lists (4 bytes per example).
// Threading: one task at a time.
// Errors:    those of worker/data, and of `fits`.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/data/load.h"
#include "worker/data/partition.h"

namespace espalier::worker::tasks {

struct ShardView {
  std::shared_ptr<const data::Dataset> dataset;
  std::shared_ptr<const data::ShardIndices> indices;
};

class LocalData {
 public:
  explicit LocalData(const std::string& root, const data::LoadOptions& options = {})
      : options_(options), cache_(root, 1, options) {}

  // Whether a model can take the data; asked before it is divided.
  using Fits = std::function<absl::Status(const data::Dataset&)>;

  // The shard of `task`, or the whole split for an evaluation on all test data.
  absl::StatusOr<ShardView> Get(const v1::Task& task, const Fits& fits);
  // Lets go of what is kept.
  void Forget();

 private:
  static constexpr size_t kKeptShards = 64;
  struct Kept {
    std::string key;
    std::shared_ptr<const data::Dataset> dataset;
    std::shared_ptr<const data::ShardIndices> indices;
  };

  data::LoadOptions options_;
  data::DatasetCache cache_;
  std::deque<Kept> kept_;  // newest last
};

}  // namespace espalier::worker::tasks
