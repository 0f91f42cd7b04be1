#include "worker/tasks/recommender/private_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/crc32c.h"
#include "common/io/file_system.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::worker::tasks {
namespace {

constexpr std::string_view kMagic = "ESPROWS1";
constexpr std::string_view kEnding = ".rows";
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 30;

absl::Status Corrupt(const std::string& path, std::string_view what) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "STATE_CORRUPT",
      fmt::format("private rows in {}: expected what this worker wrote, found {}; remove the file: "
                  "training then goes on from the round before, or from new rows",
                  path, what));
}

// One component of a path: a job's or a participant's name comes from the network.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

std::string FileName(const std::string& participant, int32_t round) {
  return fmt::format("{}-{}{}", participant, round, kEnding);
}

// The round in a file name of this participant.
std::optional<int32_t> RoundOf(std::string_view name, const std::string& participant) {
  const std::string prefix = participant + "-";
  if (!name.starts_with(prefix) || !name.ends_with(kEnding)) return std::nullopt;
  name.remove_prefix(prefix.size());
  name.remove_suffix(kEnding.size());
  int32_t round = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), round);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return round;
}

void PutBlock(std::string_view block, std::string& out) {
  const uint64_t size = block.size();
  out.append(reinterpret_cast<const char*>(&size), sizeof(size));
  out.append(block);
}

// The next block of `rest`, or nothing when it is shorter than it says.
std::optional<std::string_view> TakeBlock(std::string_view& rest) {
  uint64_t size = 0;
  if (rest.size() < sizeof(size)) return std::nullopt;
  std::memcpy(&size, rest.data(), sizeof(size));
  rest.remove_prefix(sizeof(size));
  if (size > rest.size()) return std::nullopt;
  const std::string_view block = rest.substr(0, size);
  rest.remove_prefix(size);
  return block;
}

absl::StatusOr<std::string> Encode(const tensor::ModelState& rows) {
  ESPALIER_ASSIGN_OR_RETURN(const v1::FullTopology topology, wire::EncodeTopology(*rows.topology));
  std::string bytes(kMagic);
  PutBlock(topology.SerializeAsString(), bytes);
  PutBlock(wire::ValuesAsBytes(rows.values), bytes);
  PutBlock(wire::ValuesAsBytes(rows.optimizer_state), bytes);
  const uint32_t crc = io::Crc32c(bytes);
  bytes.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  return bytes;
}

absl::StatusOr<tensor::ModelState> Decode(
    const std::string& path, std::string_view bytes,
    const std::shared_ptr<const tensor::ModelLayout>& layout) {
  uint32_t crc = 0;
  if (bytes.size() < kMagic.size() + sizeof(crc)) return Corrupt(path, "a shorter file");
  std::memcpy(&crc, bytes.data() + bytes.size() - sizeof(crc), sizeof(crc));
  bytes.remove_suffix(sizeof(crc));
  if (!bytes.starts_with(kMagic) || io::Crc32c(bytes) != crc) {
    return Corrupt(path, "other bytes (the checksum differs)");
  }
  bytes.remove_prefix(kMagic.size());
  const auto topology = TakeBlock(bytes);
  const auto values = TakeBlock(bytes);
  const auto state = TakeBlock(bytes);
  v1::FullTopology message;
  if (!topology || !values || !state ||
      !message.ParseFromArray(topology->data(), static_cast<int>(topology->size()))) {
    return Corrupt(path, "blocks that do not fit");
  }
  tensor::ModelState rows;
  auto decoded = wire::DecodeTopology(message, layout);
  if (!decoded.ok()) return Corrupt(path, "rows of other users or another model");
  rows.topology = *std::move(decoded);
  const auto stored = static_cast<uint64_t>(rows.topology->total_stored());
  ESPALIER_ASSIGN_OR_RETURN(rows.values, wire::DecodeValues(*values, stored));
  ESPALIER_ASSIGN_OR_RETURN(rows.optimizer_state,
                            wire::DecodeValues(*state, state->size() / sizeof(float)));
  return rows;
}

}  // namespace

absl::StatusOr<std::string> PrivateRows::DirectoryOf(const v1::Task& task) const {
  if (state_dir_.empty()) {
    return base::FailedPrecondition(
        "STATE_DIR_MISSING",
        "expected a folder for rows of users that stay on this worker, found none; start the "
        "worker with --state-dir");
  }
  std::string job = task.job();
  if (job.starts_with("jobs/")) job.erase(0, 5);
  if (!IsPlainName(job) || !IsPlainName(task.participant())) {
    return base::InvalidArgument("INVALID_NAME",
                                 "expected names of job and participant of lower-case letters, "
                                 "digits and '-', found others");
  }
  return state_dir_ + "/" + job;
}

absl::StatusOr<std::optional<tensor::ModelState>> PrivateRows::Load(
    const v1::Task& task, int32_t round,
    const std::shared_ptr<const tensor::ModelLayout>& layout) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string directory, DirectoryOf(task));
  ESPALIER_ASSIGN_OR_RETURN(auto kept, Kept(task));
  std::vector<int32_t>& rounds = kept[task.participant()];
  std::erase_if(rounds, [round](int32_t known) { return known > round; });
  if (rounds.empty()) return std::nullopt;
  const std::string path = directory + "/" + FileName(task.participant(), rounds.back());
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                            io::ReadFile(io::PosixFileSystem(), path, kMaxFileBytes));
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState rows, Decode(path, bytes, layout));
  return rows;
}

absl::StatusOr<std::map<std::string, std::vector<int32_t>>> PrivateRows::Kept(
    const v1::Task& task) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string directory, DirectoryOf(task));
  std::map<std::string, std::vector<int32_t>> kept;
  const auto names = io::PosixFileSystem().List(directory);
  if (!names.ok()) return kept;  // no job has been here
  for (const std::string& name : *names) {
    const std::string participant = name.substr(0, name.find_last_of('-'));
    if (const auto round = RoundOf(name, participant)) kept[participant].push_back(*round);
  }
  for (auto& [participant, rounds] : kept) std::sort(rounds.begin(), rounds.end());
  return kept;
}

absl::Status PrivateRows::Save(const v1::Task& task, const tensor::ModelState& rows) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string directory, DirectoryOf(task));
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, Encode(rows));
  ESPALIER_RETURN_IF_ERROR(io::WriteAtomically(
      files, directory + "/" + FileName(task.participant(), task.round()), bytes));
  ESPALIER_ASSIGN_OR_RETURN(auto kept, Kept(task));
  std::vector<int32_t>& before = kept[task.participant()];
  // Later rounds are those of an earlier job of this name.
  std::vector<int32_t> gone;
  for (const int32_t round : before) {
    if (round > task.round()) gone.push_back(round);
  }
  std::erase_if(before, [&](int32_t round) { return round >= task.round(); });
  // The base of this round, and of the one before.
  for (int kept_rounds = 0; kept_rounds < 2 && !before.empty(); ++kept_rounds) before.pop_back();
  gone.insert(gone.end(), before.begin(), before.end());
  for (const int32_t round : gone) {
    ESPALIER_RETURN_IF_ERROR(files.Remove(directory + "/" + FileName(task.participant(), round)));
  }
  return absl::OkStatus();
}

absl::StatusOr<tensor::ModelState> PrivateRows::Initial(
    const v1::Task& task, const std::shared_ptr<const tensor::ModelLayout>& layout, int64_t users) {
  ESPALIER_ASSIGN_OR_RETURN(const auto tensors,
                            wire::UserTensors(task.model().spec().recommender(), users));
  const double density = std::clamp(
      wire::AdditionOf(task.train(), v1::TrainAddition::kPrivateUpdate).private_update().density(),
      0.0, 1.0);
  const auto shard = static_cast<uint64_t>(task.shard());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const tensor::TensorSpec& spec = tensors[i].spec;
    if (!spec.sparsifiable || density == 1) continue;
    const auto stored = std::llround(density * static_cast<double>(spec.size()));
    ESPALIER_ASSIGN_OR_RETURN(
        tensor::Topology topology,
        sparsity::RandomTopology(spec.rows, spec.cols, stored,
                                 base::StreamKey(task.seed(), "private-topology", {shard, i})));
    topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  tensor::ModelState rows;
  rows.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  rows.values.resize(rows.topology->total_stored());
  for (size_t i = 0; i < tensors.size(); ++i) {
    base::Rng rng(base::StreamKey(task.seed(), "private-init", {shard, i}));
    for (float& value : rows.tensor(i)) {
      value = static_cast<float>(tensors[i].deviation * rng.Normal());
    }
  }
  return rows;
}

}  // namespace espalier::worker::tasks
