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
#include "common/wire/values_codec.h"
#include "worker/data/prediction/prediction.h"
#include "worker/predict/questions.h"
#include "worker/predict/writer.h"
#include "worker/tasks/evaluation/predict.h"
#include "worker/tasks/local_data.h"
#include "worker/tasks/recommender/recommender.h"
#include "worker/tasks/task.h"

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

absl::StatusOr<std::unique_ptr<language::Tokenizer>> TokenizerOf(const PredictOptions& options,
                                                                 const v1::TextData& text) {
  if (!options.tokenizer.empty()) return language::LoadTokenizer(options.tokenizer);
  if (text.tokenizer().empty() || text.tokenizer() == "bytes") return language::MakeByteTokenizer();
  return Usage(
      "expected --tokenizer, since the model was not trained on bytes; name the file or folder of "
      "the tokenizer that its data set has");
}

absl::StatusOr<Predictions> PredictText(const PredictOptions& options, Model& model,
                                        const data::LoadOptions& load) {
  const v1::TextData& text = model.task.data().text();
  ESPALIER_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(options, text));
  ESPALIER_ASSIGN_OR_RETURN(
      const v1::Examples examples,
      TextQuestions(options.input, *tokenizer, tasks::PredictionsPerExample(model.task), load));
  tasks::NetworkCache networks(options.threads);
  const std::atomic<bool> cancelled{false};
  Predictions predictions;
  ESPALIER_ASSIGN_OR_RETURN(
      predictions.values,
      tasks::PredictTokens(networks, model.task, model.state, examples, cancelled));
  predictions.width = wire::ClassesOf(model.task.model().spec());
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
  v1::Examples& examples = *model.task.mutable_predict()->mutable_examples();
  ESPALIER_ASSIGN_OR_RETURN(examples, PairQuestions(options.input, load));
  const std::string root = named.parent_path().string();
  tasks::LocalData data(root, load);
  tasks::NetworkCache networks(options.threads);
  tasks::Recommenders recommenders(root, "", options.threads, load);
  const std::atomic<bool> cancelled{false};
  tasks::Surroundings surroundings{data, networks, recommenders, cancelled};
  ESPALIER_ASSIGN_OR_RETURN(const tasks::Partial partial,
                            tasks::RunRecommenderPredict(surroundings, model.task, model.state));
  Predictions predictions;
  predictions.outputs = {"score"};
  predictions.width = 1;
  predictions.has_best = false;
  predictions.key_names = {"user", "item"};
  ESPALIER_ASSIGN_OR_RETURN(predictions.values,
                            wire::DecodeValues(partial.body, examples.examples_size()));
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
  const v1::ModelSpec& spec = model.task.model().spec();
  if (spec.has_recommender() && options.top > 0) {
    return Usage("a recommender gives one score for each pair; leave --top out");
  }
  data::LoadOptions load;
  if (options.max_memory_bytes > 0) load.max_memory_bytes = options.max_memory_bytes;
  const auto predict = spec.has_recommender()   ? PredictPairs
                       : spec.has_transformer() ? PredictText
                                                : PredictExamples;
  ESPALIER_ASSIGN_OR_RETURN(const Predictions predictions, predict(options, model, load));
  const bool some = spec.has_transformer() && options.top == 0 && options.format != "npy";
  return Write(predictions, options.format, some ? kTopTokens : options.top);
}

}  // namespace espalier::worker::predict
