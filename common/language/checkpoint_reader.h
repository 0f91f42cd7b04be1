// CheckpointReader: a transformer in Hugging Face's layout (config.json with model.safetensors, or
// with model.safetensors.index.json and its shards), read one block at a time.
//
// Memory:      files are mapped, not read: a model may be larger than memory. What ReadBlock()
//              returns is the only copy: 4 bytes per weight, or 8 per stored weight when sparse.
// Types:       F32, F16 and BF16 become float32.
// Sparse:      a weight W of a linear layer may be stored as W.bitmap and W.values instead, see
//              docs/formats/language-model.md, or as W.row_offsets, W.columns and W.values, as
//              checkpoints of training jobs have it; it is read as a topology with values.
// Threading:   const methods may be called from several threads.
// Errors:      Open() checks every header, name, type and shape against config.json before any
//              data is read. NotFound CHECKPOINT_NOT_FOUND; InvalidArgument CONFIG_INVALID,
//              MODEL_UNSUPPORTED, SAFETENSORS_INVALID, TENSOR_MISSING, TENSOR_SHAPE, TENSOR_TYPE,
//              INDEX_INVALID, COMPANION_TOO_LARGE; reading: WEIGHT_NOT_FINITE,
//              TENSOR_SPARSE_INVALID. Messages name file and tensor, expected, found and what to
//              do.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/mapped_file.h"
#include "common/language/architecture/transformer_config.h"
#include "common/tensor/topology.h"
#include "common/wire/safetensors.h"

namespace espalier::language {

// One linear layer: y = W x + b.
struct LinearWeights {
  LinearLayerSpec spec;
  // Null: dense, `values` is outputs × inputs, row-major. Otherwise values in topology order.
  std::shared_ptr<const tensor::Topology> topology;
  std::vector<float> values;
  std::vector<float> bias;  // outputs values, or empty
};

struct BlockWeights {
  std::vector<float> attention_norm;       // hidden
  std::vector<float> attention_norm_bias;  // hidden, or empty
  std::vector<float> mlp_norm;
  std::vector<float> mlp_norm_bias;
  std::vector<LinearWeights> linears;  // in the order of BlockLinears()
};

struct OuterWeights {
  std::vector<float> embedding;  // vocabulary × hidden
  std::vector<float> positions;  // (context + position_offset) × hidden, or empty
  std::vector<float> final_norm;
  std::vector<float> final_norm_bias;
  std::vector<float> output;  // vocabulary × hidden; empty: tied, the embedding
};

// A file that belongs to a model beside its weights: how text becomes tokens, how text is
// generated.
struct CompanionFile {
  std::string name;
  std::string_view bytes;
};

// Whether a file of this name may accompany a model: tokenizer.json, tokenizer.model,
// tokenizer.bin, tok<N>.bin, tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// vocab.json, merges.txt, chat_template.jinja, generation_config.json. Nothing else is ever
// written for a model, whatever a checkpoint says.
bool IsCompanion(std::string_view name);

// Of each, and of all of a model's together.
inline constexpr uint64_t kMaxCompanionBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMaxCompanionsBytes = uint64_t{128} << 20;
// In a checkpoint of Espalier they are tensors of bytes with this before their names.
inline constexpr char kCompanionPrefix[] = "files/";

// Sets to sparse what has zeros: `values` shrinks to the nonzeros and `topology` says where they
// are. A layer that is sparse already stays as it is.
absl::Status MakeSparse(LinearWeights& linear);

// outputs × inputs, row-major, zeros where nothing is stored.
std::vector<float> DenseValues(const LinearWeights& linear);

class CheckpointReader {
 public:
  // `directory` as the operating system takes it.
  static absl::StatusOr<std::unique_ptr<CheckpointReader>> Open(const std::string& directory);
  // One checkpoint file of Espalier, whose header says the configuration (trained_config.h).
  // Errors: also NOT_A_LANGUAGE_MODEL.
  static absl::StatusOr<std::unique_ptr<CheckpointReader>> OpenFile(const std::string& path);
  ~CheckpointReader();
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  const TransformerConfig& config() const { return config_; }
  const std::string& directory() const { return directory_; }
  // By name; their bytes live as long as the reader.
  const std::vector<CompanionFile>& companions() const { return companions_; }
  // Those of another folder, in place of the model's own. Errors: InvalidArgument
  // COMPANION_TOO_LARGE; NotFound COMPANIONS_NOT_FOUND where there is none.
  absl::Status TakeCompanionsFrom(const std::string& directory);

  // `block` in [0, config().blocks).
  absl::StatusOr<BlockWeights> ReadBlock(int64_t block) const;
  // One linear layer of a block; `linear` counts as BlockLinears().
  absl::StatusOr<LinearWeights> ReadLinear(int64_t block, size_t linear) const;
  absl::StatusOr<OuterWeights> ReadOuter() const;

  // Type and shape of a dense tensor as it is stored; null when there is none with that name.
  const wire::TensorInfo* Find(std::string_view name) const;
  // A dense tensor as it is stored, in float32. Errors: also TENSOR_MISSING.
  absl::StatusOr<std::vector<float>> ReadTensor(std::string_view name) const;

 private:
  struct Place {
    size_t file = 0;
    wire::TensorInfo info;
  };
  explicit CheckpointReader(std::string directory) : directory_(std::move(directory)) {}

  // The companion files of a folder, or those in a checkpoint.
  absl::Status AddCompanionsIn(const std::string& directory);
  absl::Status AddStoredCompanions();
  absl::Status AddCompanion(std::string name, std::string_view bytes);
  // Returns the file's metadata.
  absl::StatusOr<std::map<std::string, std::string>> AddFile(const std::string& name);
  absl::Status AddIndexedFiles();
  absl::Status CheckTensors() const;
  absl::Status CheckTensor(const StoredTensor& expected) const;
  // The two tensors that a sparse weight is stored as.
  absl::Status CheckSparse(const StoredTensor& weight) const;
  bool IsSparse(const std::string& name) const;
  absl::Status CheckInteger(const std::string& name, wire::DataType type, int64_t size) const;
  // The bytes of a tensor that is there.
  std::string_view BytesOf(const std::string& name) const;
  absl::StatusOr<tensor::Topology> ReadTopology(const std::string& name, int64_t rows, int64_t cols,
                                                int64_t values) const;
  // The name under which a tensor is stored: GPT-2's first files lack the prefix "transformer.".
  std::string StoredName(std::string_view name) const;
  absl::Status ReadFloats(std::string_view name, std::vector<float>& values) const;
  absl::Status ReadSparse(const std::string& name, LinearWeights& linear) const;
  // Whether the files have a layer's weights inputs × outputs.
  bool IsTransposed(const LinearLayerSpec& linear) const {
    return linear.transposed && order_ == MatrixOrder::kAsInFiles;
  }

  std::string directory_;
  TransformerConfig config_;
  MatrixOrder order_ = MatrixOrder::kAsInFiles;
  std::vector<std::string> file_names_;
  std::vector<std::unique_ptr<io::MappedFile>> files_;
  std::map<std::string, Place, std::less<>> tensors_;
  std::vector<CompanionFile> companions_;
  std::vector<std::unique_ptr<io::MappedFile>> companion_files_;
};

}  // namespace espalier::language
