#include "worker/predict/predict_file.h"

#include <atomic>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/checkpoint/checkpoint_file.h"
#include "common/io/file_system.h"
#include "common/language/tokenizer.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "common/wire/model_spec/transformer.h"
#include "worker/data/prediction/prediction.h"
#include "worker/predict/questions.h"
#include "worker/predict/writer.h"
#include "worker/tasks/models.h"
#include "worker/tasks/network/example_form.h"

namespace espalier::worker::predict {
namespace {

namespace fs = std::filesystem;

// Without a number of them a language model's answer is its few best tokens.
constexpr int32_t kTopTokens = 5;

absl::Status Usage(const std::string& message) { return base::InvalidArgument("USAGE", message); }

// A model and what it is asked with; the parts of a worker that its tasks run in.
struct Model {
  v1::Task task;
  std::shared_ptr<const tensor::ModelState> state;
};

absl::StatusOr<Model> ReadModel(const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(checkpoint::LoadedCheckpoint loaded,
                            checkpoint::ReadCheckpointFile(io::PosixFileSystem(), path));
  if (!loaded.metadata.data_spec.has_value()) {
    return base::FailedPrecondition(
        "NO_PREDICTIONS",
        "expected the checkpoint of a model that a job trained, found a language model that was "
        "pruned or one of an old version; `espalier generate` continues texts with it");
  }
  Model model;
  *model.task.mutable_model()->mutable_spec() = loaded.metadata.model_spec;
  *model.task.mutable_data() = *loaded.metadata.data_spec;
  model.task.set_seed(loaded.metadata.seed);
  model.task.mutable_predict();
  model.state = std::make_shared<const tensor::ModelState>(std::move(loaded.state));
  return model;
}

absl::StatusOr<std::unique_ptr<::espalier::language::Tokenizer>> TokenizerOf(
    const PredictOptions& options, const v1::TextData& text) {
  if (!options.tokenizer.empty()) return ::espalier::language::LoadTokenizer(options.tokenizer);
  if (text.tokenizer().empty() || text.tokenizer() == "bytes")
    return ::espalier::language::MakeByteTokenizer();
  return Usage(
      "expected --tokenizer, since the model was not trained on bytes; name the file or folder of "
      "the tokenizer that its data set has");
}

// What the model says of examples, as it would in a task. `data_root` has the data set's folder
// where the family needs one.
absl::StatusOr<std::vector<float>> Ask(const PredictOptions& options, const std::string& data_root,
                                       const data::LoadOptions& load, const Model& model,
                                       const v1::Examples& examples) {
  const std::atomic<bool> cancelled{false};
  tasks::Models models({.data_root = data_root, .threads = options.threads, .load = load}, {},
                       cancelled);
  return models.Make(model.task, model.state)->Predict(examples);
}

absl::StatusOr<Predictions> PredictText(const PredictOptions& options, Model& model,
                                        const data::LoadOptions& load) {
  const v1::TextData& text = model.task.data().text();
  ESPALIER_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(options, text));
  ESPALIER_ASSIGN_OR_RETURN(
      const v1::Examples examples,
      TextQuestions(options.input, *tokenizer,
                    tasks::FormOf(model.task.model().spec()).ColumnsPerExample(model.task), load));
  Predictions predictions;
  predictions.width = wire::ClassesOf(model.task.model().spec());
  ESPALIER_RETURN_IF_ERROR(load.CheckMemory(
      options.input,
      examples.examples_size() * predictions.width * static_cast<int64_t>(sizeof(float))));
  ESPALIER_ASSIGN_OR_RETURN(predictions.values, Ask(options, "", load, model, examples));
  for (int32_t token = 0; token < predictions.width; ++token) {
    predictions.texts.push_back(tokenizer->Decode(std::vector<int32_t>{token}, true));
  }
  return predictions;
}

absl::StatusOr<Predictions> PredictPairs(const PredictOptions& options, Model& model,
                                         const data::LoadOptions& load) {
  if (options.dataset.empty()) {
    return Usage(
        "expected --data, the folder of the recommender's data set: it has the names of users and "
        "items, and what each user had");
  }
  const fs::path folder = fs::absolute(options.dataset).lexically_normal();
  const fs::path named = folder.has_filename() ? folder : folder.parent_path();
  model.task.mutable_data()->set_dataset(named.filename().string());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Examples examples, PairQuestions(options.input, load));
  Predictions predictions;
  ESPALIER_ASSIGN_OR_RETURN(predictions.values,
                            Ask(options, named.parent_path().string(), load, model, examples));
  predictions.outputs = {"score"};
  predictions.width = 1;
  predictions.has_best = false;
  predictions.key_names = {"user", "item"};
  for (const v1::Example& example : examples.examples()) {
    predictions.keys.push_back({example.user(), example.item()});
  }
  return predictions;
}

absl::StatusOr<Predictions> PredictExamples(const PredictOptions& options, Model& model,
                                            const data::LoadOptions& load) {
  ESPALIER_ASSIGN_OR_RETURN(
      const data::Unlabelled examples,
      data::ReadForPrediction(options.input, model.task.data(),
                              tasks::InputFeatures(model.task.model().spec()), load));
  tasks::NetworkCache networks(options.threads);
  const std::atomic<bool> cancelled{false};
  Predictions predictions;
  ESPALIER_ASSIGN_OR_RETURN(
      predictions.values,
      tasks::PredictRows(networks, model.task, model.state, examples.dataset, cancelled));
  predictions.width = wire::ClassesOf(model.task.model().spec());
  const v1::Agreement& agreement = model.task.data().agreement();
  const auto& names =
      agreement.target_columns().empty() ? agreement.classes() : agreement.target_columns();
  predictions.outputs.assign(names.begin(), names.end());
  predictions.has_best = wire::LearnsClass(model.task.data());
  while (static_cast<int64_t>(predictions.outputs.size()) < predictions.width) {
    predictions.outputs.push_back(std::to_string(predictions.outputs.size()));
  }
  if (examples.names.empty()) return predictions;
  predictions.key_names = {"file"};
  for (const std::string& name : examples.names) predictions.keys.push_back({name});
  return predictions;
}

// How a file is asked about, by what the model's examples are.
struct Asking {
  absl::StatusOr<Predictions> (*predict)(const PredictOptions& options, Model& model,
                                         const data::LoadOptions& load);
  int64_t default_top = 0;  // outputs that are printed; 0: all
  bool gives_one = false;   // one number for each example, which --top cannot choose from
};

Asking AskingOf(const v1::ModelSpec& spec) {
  if (spec.has_recommender()) return {.predict = PredictPairs, .gives_one = true};
  if (tasks::FormOf(spec).has_tokens()) return {.predict = PredictText, .default_top = kTopTokens};
  return {.predict = PredictExamples};
}

absl::StatusOr<std::string> Write(const Predictions& predictions, const std::string& format,
                                  int64_t top) {
  if (format == "json") return AsJson(predictions, top);
  return format == "npy" ? AsNpy(predictions) : AsCsv(predictions, top);
}

}  // namespace

absl::StatusOr<std::string> PredictFile(const PredictOptions& options) {
  if (options.format == "npy" && options.top > 0) {
    return Usage("an .npy array has all outputs of each example; leave --top out, or use csv");
  }
  ESPALIER_ASSIGN_OR_RETURN(Model model, ReadModel(options.checkpoint));
  const Asking asking = AskingOf(model.task.model().spec());
  if (asking.gives_one && options.top > 0) {
    return Usage("a recommender gives one score for each pair; leave --top out");
  }
  data::LoadOptions load;
  if (options.max_memory_bytes > 0) load.max_memory_bytes = options.max_memory_bytes;
  ESPALIER_ASSIGN_OR_RETURN(const Predictions predictions, asking.predict(options, model, load));
  const bool has_default = options.top == 0 && options.format != "npy";
  return Write(predictions, options.format, has_default ? asking.default_top : options.top);
}

}  // namespace espalier::worker::predict
