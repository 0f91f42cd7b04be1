// A model as a safetensors file that other programs can read.
//
// Tensors:   of a sparse tensor NAME: NAME.values (F32, nnz), NAME.row_offsets (I32, rows + 1) and
//            NAME.columns (I32, nnz), a CSR matrix of rows × cols; of a dense one NAME (F32, its
//            shape). Optimizer state, where there is any: of each tensor NAME a tensor
//            files/optimizer/SLOT/NAME, with a number for each of the tensor's values (F32; nnz, or
//            the dense one's shape).
// Metadata:  format "espalier.checkpoint", format_version, job, round, run, topology_hash, layout (JSON:
//            name, shape, sparsifiable and sparse of each tensor, in order), model_spec (JSON),
//            data_spec (JSON: the scaling of inputs, and in `agreement` names of columns and
//            classes) and seed, optimizer (JSON) and optimizer_steps with optimizer state, main_metric and main_metric_name ("" when unknown), density,
//            create_time (RFC 3339), data_sha256 (of all bytes after the header, so that a file can
//            prove itself whole).
// Errors:    CHECKPOINT_INVALID (InvalidArgument) for files that are none; CHECKPOINT_CORRUPT
//            (DataLoss) for those whose content is not what was written; SAFETENSORS_INVALID; those
//            of io.
// Threading: free functions; the FileSystem says what it allows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/io/file_system.h"
#include "common/tensor/model.h"
#include "espalier/v1/data.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/model.pb.h"

namespace espalier::checkpoint {

// What a file holds, and with that what its header says.
enum class CheckpointKind {
  kNetwork,        // a model that a job trained
  kLanguageModel,  // one that was pruned: a config.json is in place of structure and model_spec
};

// The optimizer whose state a checkpoint holds.
struct SavedOptimizer {
  v1::Optimizer
      optimizer;      // with its hyper-parameters; it keeps at least one number for each value
  int64_t steps = 0;  // minibatches that lie behind the state; 0: not known
};

// What a checkpoint says besides the tensors.
struct CheckpointMetadata {
  std::string job;  // id without "jobs/"
  int32_t round = 0;
  std::string run;     // of the job's runs; "" where the job trained one model
  std::string owner;   // of the job; "" where the cluster does not know its users, and in old files
  std::string method;  // of the job; "" in old files
  CheckpointKind kind = CheckpointKind::kNetwork;
  v1::ModelSpec model_spec;  // of a network
  // What it was trained on, so that it can be used later; absent in old files.
  std::optional<v1::DataSpec> data_spec;
  uint64_t seed = 0;
  // Of a file with optimizer state; absent in all others.
  std::optional<SavedOptimizer> optimizer;
  std::string main_metric_name;       // evaluation.main_metric of the job
  std::optional<double> main_metric;  // its value in that round
  absl::Time create_time;
};

// A file that goes with the model, such as its tokenizer: a tensor "files/NAME" of bytes.
struct AttachedFile {
  std::string name;
  std::string_view bytes;
};

struct WrittenFile {
  uint64_t size_bytes = 0;
  std::string sha256;  // of the file, hex
};

// Numbers that the optimizer keeps for each value: 1 of momentum, or 2 of Adam's moments.
int SlotsOf(const v1::Optimizer& optimizer);
// What these are called in files, 0 ≤ slot < SlotsOf(): "momentum", or "first_moment" and
// "second_moment".
std::string_view SlotName(const v1::Optimizer& optimizer, int slot);

// Writes `state` to `path` atomically: synced, read back and compared before it gets its name. The
// state of its optimizer is written where the metadata say what that is. Errors: InvalidArgument
// (SHAPE_MISMATCH) where that has another number of slots.
absl::StatusOr<WrittenFile> WriteCheckpointFile(io::FileSystem& files, const std::string& path,
                                                const tensor::ModelState& state,
                                                const CheckpointMetadata& metadata,
                                                std::span<const AttachedFile> attached = {});

// Moves a language model's model.safetensors, whose metadata are EncodeLanguageMetadata(), to
// `path` with the digest of its data in its header; durable as WriteCheckpointFile(). `from` stays.
absl::StatusOr<WrittenFile> AdoptLanguageFile(io::FileSystem& files, const std::string& from,
                                              const std::string& path);

struct LoadedCheckpoint {
  CheckpointMetadata metadata;
  tensor::ModelState state;
};

// Reads a model back, without the state of its optimizer; structure hash and data digest are
// verified. Memory: the model, twice for a moment.
absl::StatusOr<LoadedCheckpoint> ReadCheckpointFile(io::FileSystem& files, const std::string& path);

// A checkpoint of a network that stays on disk: its tensors are read one after the other.
//
// Memory:    the layout, and a block of 1 MiB while a tensor is read.
// Threading: immutable after Open(); may be used from several threads.
class CheckpointReader {
 public:
  // Reads the header alone. The file stays readable when its name is removed.
  static absl::StatusOr<std::unique_ptr<CheckpointReader>> Open(io::FileSystem& files,
                                                                const std::string& path);
  ~CheckpointReader();
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  const CheckpointMetadata& metadata() const;
  const tensor::ModelLayout& layout() const;
  bool is_sparse(size_t tensor) const;
  // Active / all weights of the sparsifiable tensors.
  double density() const;
  // Reads all data once and compares them with the digest in the header.
  absl::Status Verify() const;
  // Which positions a sparse tensor of the layout stores; null for a dense one.
  absl::StatusOr<std::shared_ptr<const tensor::Topology>> ReadStructure(size_t tensor) const;
  // Values of a tensor of the layout, row by row, in consecutive pieces; zeros where a sparse one
  // stores nothing.
  using Sink = std::function<void(std::span<const float>)>;
  absl::Status ReadDense(size_t tensor, const Sink& sink) const;
  // The same of the optimizer's state, in a file that holds one: what `slot` < SlotsOf() keeps for
  // each value of the tensor. Zeros where nothing is stored.
  absl::Status ReadOptimizerState(int slot, size_t tensor, const Sink& sink) const;
  // How many values a tensor of the layout stores, by the header alone.
  absl::StatusOr<int64_t> Stored(size_t tensor) const;

 private:
  struct Opened;
  CheckpointReader(std::string path, std::unique_ptr<Opened> opened);
  // `name`: in the file, of a tensor with a number for each value of `tensor`.
  absl::Status ReadNumbers(size_t tensor, const std::string& name, const Sink& sink) const;
  absl::Status ReadSparse(size_t tensor, const std::string& name, const Sink& sink) const;

  const std::string path_;
  const std::unique_ptr<Opened> opened_;
};
// What the header says, without reading the data.
absl::StatusOr<CheckpointMetadata> ReadCheckpointMetadata(io::FileSystem& files,
                                                          const std::string& path);

// What a file says of itself without loading the model, after reading and verifying all its bytes.
struct FileSummary {
  CheckpointMetadata metadata;
  double density = 0;  // active / all weights of the sparsifiable tensors
  WrittenFile file;
};
absl::StatusOr<FileSummary> VerifyCheckpointFile(io::FileSystem& files, const std::string& path);

// Active / all weights of the sparsifiable tensors; 1 when there are none.
double Density(const tensor::ModelTopology& topology);

}  // namespace espalier::checkpoint
