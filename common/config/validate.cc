#include "common/config/validate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "common/base/names.h"
#include "common/config/checker.h"
#include "common/config/families/family_rules.h"
#include "common/config/sections/validate_aggregation.h"
#include "common/config/sections/validate_frozen.h"
#include "common/config/text.h"
#include "common/config/validate_model.h"
#include "common/config/validate_target.h"
#include "common/config/well_formed.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

constexpr int32_t kMaxRounds = 1'000'000;
constexpr int32_t kMaxShards = 100'000;
constexpr int64_t kMaxDeadlineSeconds = 24 * 3600;
constexpr size_t kMaxDisplayNameBytes = 200;
constexpr size_t kMaxNameBytes = 128;
constexpr int kMaxParameters = 100;
constexpr int64_t kMaxExamples = 1'000'000'000'000;
constexpr int32_t kMaxColumn = 100'000'000;
constexpr int32_t kMaxClasses = 10'000'000;

// A file in the data set's own folder: a plain name, never a path.
bool IsFileName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return c != '/' && c != '\\' && static_cast<unsigned char>(c) > 0x20 && c != 0x7F;
         });
}

void ValidatePartition(const v1::Partition& partition, const Checker& at) {
  using P = v1::Partition;
  if (!at.Enum("kind", P::Kind_IsValid(partition.kind()), partition.kind())) return;
  if (partition.kind() == P::KIND_LOCAL) {
    at.Check(partition.shards() == 0, "shards",
             "local data is not divided: every worker is a participant; remove shards");
  } else {
    at.Whole("shards", partition.shards(), 1, kMaxShards);
  }
  if (partition.kind() == P::KIND_DIRICHLET) {
    const double alpha = partition.alpha();
    at.Number("alpha", alpha, alpha >= 0 && alpha <= 1e9, "x > 0");
  } else {
    at.Check(partition.alpha() == 0, "alpha", "applies to kind: dirichlet only; remove it");
  }
  if (partition.kind() == P::KIND_CLASSES) {
    at.Whole("classes_per_shard", partition.classes_per_shard(), 0, kMaxClasses);
  } else {
    at.Check(partition.classes_per_shard() == 0, "classes_per_shard",
             "applies to kind: classes only; remove it");
  }
  if (partition.kind() == P::KIND_GROUPS) {
    at.Check(IsFileName(partition.groups_file()), "groups_file",
             fmt::format("expected the name of a file in the data set's folder, found {}",
                         Quoted(partition.groups_file())));
  } else {
    at.Check(partition.groups_file().empty(), "groups_file",
             "applies to kind: groups only; remove it");
  }
}

// How CSV files are read.
void ValidateTable(const v1::DataSpec& data, const Checker& at) {
  constexpr size_t kMaxColumnName = 256;
  const std::string& label = data.label_column();
  at.Check(label.size() <= kMaxColumnName, "label_column",
           fmt::format("must be a name of at most {} bytes, found {}", kMaxColumnName,
                       Grouped(static_cast<int64_t>(label.size()))));
  int64_t place = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), place);
  const bool number = error != std::errc::invalid_argument && end == label.data() + label.size();
  at.Check(!number || (error == std::errc() && place >= -1 && place <= kMaxColumn), "label_column",
           fmt::format("must be the name of a column, −1 (the last column) or 0..{}, found {}",
                       Grouped(kMaxColumn), Quoted(label)));
  at.Enum("format", v1::DataSpec::Format_IsValid(data.format()), data.format());
  at.Enum("delimiter", v1::DataSpec::Delimiter_IsValid(data.delimiter()), data.delimiter());
  at.Enum("header", v1::DataSpec::Header_IsValid(data.header()), data.header());
  at.Enum("missing", v1::DataSpec::Missing_IsValid(data.missing()), data.missing());
  at.Enum("words", v1::DataSpec::Words_IsValid(data.words()), data.words());
  const bool is_table = data.format() == v1::DataSpec::FORMAT_UNSPECIFIED ||
                        data.format() == v1::DataSpec::FORMAT_CSV;
  const auto only_tables = [&](bool given, const char* field) {
    at.Check(!given || is_table, field, "applies to format: csv only; remove it");
  };
  only_tables(data.delimiter() != 0, "delimiter");
  only_tables(data.header() != 0, "header");
  only_tables(data.missing() != 0, "missing");
  only_tables(data.words() != 0, "words");
}

// The size that images in folders are brought to.
void ValidateImageSize(const v1::DataSpec& data, const v1::ModelSpec& model, const Checker& at) {
  constexpr int64_t kMaxSide = 4096;
  if (!data.has_image_size()) return;
  const v1::ImageSize& size = data.image_size();
  const Checker in = at.In("image_size");
  in.Whole("height", size.height(), 1, kMaxSide);
  in.Whole("width", size.width(), 1, kMaxSide);
  in.Check(size.channels() == 0 || size.channels() == 1 || size.channels() == 3, "channels",
           fmt::format("expected 1 (grey), 3 (colours) or nothing, found {}", size.channels()));
  const bool is_images = data.format() == v1::DataSpec::FORMAT_UNSPECIFIED ||
                         data.format() == v1::DataSpec::FORMAT_IMAGES;
  at.Check(is_images && !data.has_text() && !data.has_interactions(), "image_size",
           "applies to images in folders (format: images) only; remove it");
  if (!model.has_input_image()) return;
  const v1::ImageShape& image = model.input_image();
  const auto same = [&](const char* field, int64_t value, int64_t expected) {
    in.Check(value == expected, field,
             fmt::format("expected {}, as in model.input_image, found {}", expected, value));
  };
  same("height", size.height(), image.height());
  same("width", size.width(), image.width());
  if (size.channels() != 0) same("channels", size.channels(), image.channels());
}

void ValidateData(const v1::DataSpec& data, const Checker& at) {
  at.Check(base::IsDatasetName(data.dataset()), "dataset",
           fmt::format("expected the name of a folder under the workers' data root (lower-case "
                       "letters, digits, '-', '_', '.'; no path), found {}",
                       Quoted(data.dataset())));
  ValidatePartition(data.partition(), at.In("partition"));
  at.Number("scale", data.scale(), data.scale() >= 0, "x > 0");
  at.Number("mean", data.mean(), true, "a finite number");
  at.Number("std", data.std(), data.std() >= 0, "x > 0");
  for (const auto& [field, limit] :
       {std::pair{"train_limit", data.train_limit()}, std::pair{"test_limit", data.test_limit()}}) {
    at.Check(
        limit >= 0 && limit <= kMaxExamples, field,
        fmt::format("must be 0 (all) or 1..{}, found {}", Grouped(kMaxExamples), Grouped(limit)));
  }
  at.Probability("test_fraction", data.test_fraction());
  ValidateTable(data, at);
  const int32_t shards = data.partition().shards();
  at.Check(data.train_limit() <= 0 || data.train_limit() >= shards, "train_limit",
           fmt::format("{} examples cannot be divided into {} shards; raise it or use fewer shards",
                       Grouped(data.train_limit()), Grouped(shards)));
}

void ValidateText(const v1::DataSpec& data, const Checker& at) {
  if (!data.has_text()) return;
  const v1::TextData& text = data.text();
  const Checker in = at.In("text");
  in.Whole("context", text.context(), 2, kMaxContext);
  in.Check(text.stride() >= 0 && text.stride() <= text.context(), "stride",
           fmt::format("must be 1..context, found {}", text.stride()));
  const std::string& kind = text.tokenizer();
  const bool known =
      kind.empty() || kind == "bytes" || kind == "file" || kind == "uint16" || kind == "uint32";
  in.Check(known, "tokenizer",
           fmt::format("expected bytes, file, uint16 or uint32, found {}", Quoted(kind)));
  constexpr size_t kMaxField = 256;
  in.Check(text.field().size() <= kMaxField, "field",
           fmt::format("must be a name of at most {} bytes, found {}", kMaxField,
                       Grouped(static_cast<int64_t>(text.field().size()))));
  at.Check((data.scale() == 0 || data.scale() == 1) && data.mean() == 0 &&
               (data.std() == 0 || data.std() == 1),
           "scale", "tokens are not scaled; remove scale, mean and std");
}

// `trains`: a learning rate is needed.
void ValidateOptimizer(const v1::Optimizer& optimizer, bool trains, const Checker& at) {
  if (!at.Enum("kind", v1::Optimizer::Kind_IsValid(optimizer.kind()), optimizer.kind())) return;
  const double rate = optimizer.learning_rate();
  at.Number("learning_rate", rate, trains ? rate > 0 : rate >= 0, trains ? "x > 0" : "x ≥ 0");
  const double decay = optimizer.weight_decay();
  at.Number("weight_decay", decay, decay >= 0, "x ≥ 0");
  at.Check(
      !optimizer.decoupled_weight_decay() || !(decay >= 1), "weight_decay",
      fmt::format("decoupled decay multiplies weights by 1 − x and must be < 1, found {}", decay));
  at.Enum("across_rounds", v1::Optimizer::AcrossRounds_IsValid(optimizer.across_rounds()),
          optimizer.across_rounds());
  if (optimizer.kind() == v1::Optimizer::KIND_ADAM) {
    at.Check(optimizer.momentum() == 0, "momentum", "applies to kind: sgd only; use beta1");
    at.Check(!optimizer.nesterov(), "nesterov", "applies to kind: sgd only; remove it");
    at.Probability("beta1", optimizer.beta1());
    at.Probability("beta2", optimizer.beta2());
    at.Number("epsilon", optimizer.epsilon(), optimizer.epsilon() >= 0, "x > 0");
    return;
  }
  at.Probability("momentum", optimizer.momentum());
  at.Check(!optimizer.nesterov() || optimizer.momentum() != 0, "nesterov",
           "is a form of momentum: set momentum, or remove nesterov");
  at.Check(optimizer.across_rounds() != v1::Optimizer::ACROSS_ROUNDS_AVERAGE ||
               optimizer.momentum() != 0,
           "across_rounds",
           "average needs state to average, and sgd without momentum has none: set momentum, or "
           "remove across_rounds");
  at.Check(optimizer.beta1() == 0, "beta1", "applies to kind: adam only; remove it");
  at.Check(optimizer.beta2() == 0, "beta2", "applies to kind: adam only; remove it");
  at.Check(optimizer.epsilon() == 0, "epsilon", "applies to kind: adam only; remove it");
}

void ValidateMilestones(const v1::LearningRateSchedule& schedule, const Checker& at) {
  if (schedule.kind() != v1::LearningRateSchedule::KIND_STEP) {
    return at.Check(schedule.milestones().empty(), "milestones",
                    "applies to kind: step only; remove it");
  }
  at.Check(!schedule.milestones().empty(), "milestones",
           "kind: step needs the rounds at which the rate falls, for example [50, 75]");
  int32_t previous = 0;
  for (int i = 0; i < schedule.milestones_size(); ++i) {
    const int32_t milestone = schedule.milestones(i);
    if (milestone > kMaxRounds) {
      at.Whole(fmt::format("milestones[{}]", i), milestone, 1, kMaxRounds);
      return;
    }
    if (milestone <= previous) {
      return at.Fail(
          fmt::format("milestones[{}]", i),
          fmt::format("expected ascending rounds from 1, found {} after {}", milestone, previous));
    }
    previous = milestone;
  }
}

void ValidateSchedule(const v1::LearningRateSchedule& schedule, int32_t rounds, const Checker& at) {
  using S = v1::LearningRateSchedule;
  if (!at.Enum("kind", S::Kind_IsValid(schedule.kind()), schedule.kind())) return;
  ValidateMilestones(schedule, at);
  const double factor = schedule.factor();
  at.Number("factor", factor, factor >= 0 && factor <= 1, "0 < x ≤ 1");
  at.Check(factor == 0 || schedule.kind() == S::KIND_STEP, "factor",
           "applies to kind: step only; remove it");
  const double final_factor = schedule.final_factor();
  at.Number("final_factor", final_factor, final_factor >= 0 && final_factor <= 1, "0 ≤ x ≤ 1");
  at.Check(
      final_factor == 0 || schedule.kind() == S::KIND_COSINE || schedule.kind() == S::KIND_LINEAR,
      "final_factor", "applies to kind: cosine and linear only; remove it");
  at.Check(schedule.warmup_rounds() >= 0 && schedule.warmup_rounds() <= std::max(rounds, 0),
           "warmup_rounds",
           fmt::format("must be 0..{} (the job's rounds), found {}", std::max(rounds, 0),
                       schedule.warmup_rounds()));
}

void ValidateTraining(const v1::Training& training, int32_t rounds, bool trains,
                      const Checker& at) {
  constexpr int32_t kMaxBatch = 65'536;
  constexpr int32_t kMaxLocalEpochs = 10'000;
  constexpr int32_t kMaxLocalSteps = 1'000'000'000;
  at.Check(training.batch_size() >= 0 && training.batch_size() <= kMaxBatch, "batch_size",
           fmt::format("must be 1..65,536, found {}", Grouped(training.batch_size())));
  at.Whole("local_epochs", training.local_epochs(), 0, kMaxLocalEpochs);
  at.Whole("local_steps", training.local_steps(), 0, kMaxLocalSteps);
  at.Check(training.local_epochs() <= 0 || training.local_steps() <= 0, "local_steps",
           fmt::format("local_epochs ({}) and local_steps ({}) exclude each other; remove one",
                       training.local_epochs(), training.local_steps()));
  at.Check(training.activation_pruning() >= 0 && training.activation_pruning() < 1,
           "activation_pruning",
           fmt::format("must be 0 ≤ x < 1, found {}", training.activation_pruning()));
  ValidateOptimizer(training.optimizer(), trains, at.In("optimizer"));
  ValidateSchedule(training.schedule(), rounds, at.In("schedule"));
}

// Averaged moments need one number of steps for Adam's bias correction, whoever averages them.
void ValidateSharedMoments(const v1::JobSpec& spec, const Checker& at) {
  const v1::Optimizer& optimizer = spec.training().optimizer();
  const bool even = spec.training().local_steps() > 0 ||
                    (spec.data().partition().kind() != v1::Partition::KIND_LOCAL &&
                     spec.data().partition().shards() <= 1);
  at.Check(optimizer.kind() != v1::Optimizer::KIND_ADAM ||
               optimizer.across_rounds() != v1::Optimizer::ACROSS_ROUNDS_AVERAGE || even,
           "across_rounds",
           "average with kind: adam needs as many steps of every participant: set "
           "training.local_steps instead of local_epochs, or across_rounds: reset");
}

// `counted`: the coordinator counts the rounds.
void ValidateFederation(const v1::Federation& federation, const v1::Partition& partition,
                        bool counted, const Checker& at) {
  constexpr int32_t kMaxWorkers = 10'000;
  constexpr int32_t kMaxExtensions = 1000;
  constexpr int32_t kMaxRetries = 100;
  using F = v1::Federation;
  at.Whole("rounds", federation.rounds(), counted ? 0 : 1, kMaxRounds);
  const bool local = partition.kind() == v1::Partition::KIND_LOCAL;
  const int32_t most = local ? kMaxWorkers : std::clamp(partition.shards(), 1, kMaxShards);
  at.Check(federation.cohort_size() >= 0 && federation.cohort_size() <= most, "cohort_size",
           fmt::format("must be 0 (all) or 1..{}{}, found {}", Grouped(most),
                       local ? "" : " (the number of shards)", Grouped(federation.cohort_size())));
  const double quorum = federation.quorum();
  at.Number("quorum", quorum, quorum >= 0 && quorum <= 1, "0 < x ≤ 1");
  if (federation.has_round_deadline()) {
    constexpr int32_t kNanos = 1'000'000'000;
    const auto& deadline = federation.round_deadline();
    const double seconds = static_cast<double>(deadline.seconds()) + deadline.nanos() * 1e-9;
    const bool well_formed = deadline.nanos() >= 0 && deadline.nanos() < kNanos;
    at.Check(well_formed && seconds >= 1 && seconds <= kMaxDeadlineSeconds, "round_deadline",
             fmt::format("must be 1s..24h, found {}s", seconds));
  }
  at.Enum("on_quorum_loss", F::QuorumPolicy_IsValid(federation.on_quorum_loss()),
          federation.on_quorum_loss());
  at.Whole("max_extensions", federation.max_extensions(), 0, kMaxExtensions);
  if (federation.has_min_workers()) {
    at.Whole("min_workers", federation.min_workers(), 1, kMaxWorkers);
  }
  if (federation.has_max_retries()) {
    at.Whole("max_retries", federation.max_retries(), 0, kMaxRetries);
  }
}

void ValidateMethod(const v1::MethodSpec& method, const Checker& at) {
  at.Check(!method.name().empty(), "name",
           "expected the name of a method, found nothing; see: espalier method list");
  at.Check(method.parameters_size() <= kMaxParameters, "parameters",
           fmt::format("expected at most {} parameters, found {}", kMaxParameters,
                       method.parameters_size()));
}

}  // namespace

std::vector<Violation> CheckSizes(const v1::JobSpec& spec) {
  std::vector<Violation> violations;
  CheckSizes(spec, Checker(violations));
  return violations;
}

void AssumeSizes(v1::JobSpec& spec) { RulesOf(spec.model()).AssumeSizes(*spec.mutable_model()); }

std::vector<Violation> ValidateJobSpec(const v1::JobSpec& spec) {
  constexpr int32_t kMaxKept = 1000;
  std::vector<Violation> violations;
  const Checker root(violations);
  if (!CheckSizes(spec, root)) return violations;
  root.Check(spec.display_name().size() <= kMaxDisplayNameBytes, "display_name",
             fmt::format("expected at most {} bytes, found {}", kMaxDisplayNameBytes,
                         spec.display_name().size()));
  const size_t before_model = violations.size();
  const bool prunes = IsPruningMethod(spec.method().name());
  v1::JobSpec with_target = spec;
  ApplyTargetDefaults(with_target, prunes);
  const FamilyRules& rules = RulesOf(spec.model());
  rules.ValidateModel(with_target.model(), spec.method(), root.In("model"));
  // What follows from the model's shapes is computed only from numbers in range.
  const bool has_shapes = violations.size() == before_model;
  ValidateData(spec.data(), root.In("data"));
  const v1::ModelSpec model = wire::ExplicitModel(spec.model());
  rules.ValidateText(spec.data(), model, root.In("data"));
  ValidateText(spec.data(), root.In("data"));
  ValidateImageSize(spec.data(), model, root.In("data"));
  rules.ValidateInputs(spec.data(), model, has_shapes, root.In("data"));
  rules.ValidateInteractions(spec, root);
  if (has_shapes) ValidateTarget(with_target, prunes, root);
  ValidateMethod(spec.method(), root.In("method"));
  ValidateTraining(spec.training(), spec.federation().rounds(), !prunes, root.In("training"));
  if (!prunes) {
    ValidateSharedMoments(spec, root.In("training.optimizer"));
    const bool single = spec.training().batch_size() == 1 && has_shapes;
    root.In("training")
        .Check(!single || !wire::NormalizesSingleValues(model), "batch_size",
               "expected at least 2 examples, found 1, of which a batch norm of single features "
               "leaves nothing; use larger batches, or remove the batch norm");
  }
  ValidateFederation(spec.federation(), spec.data().partition(), prunes, root.In("federation"));
  ValidateAggregation(spec, root);
  ValidateFrozen(spec, has_shapes, root);
  const Checker on_wire = root.In("wire");
  on_wire.Enum("up", v1::Wire::Values_IsValid(spec.wire().up()), spec.wire().up());
  on_wire.Enum("down", v1::Wire::Values_IsValid(spec.wire().down()), spec.wire().down());
  root.Check(!prunes || !spec.has_wire(), "wire",
             "is for methods that train, and this one sends no trained weights; leave it out");
  root.In("evaluation").Whole("every_rounds", spec.evaluation().every_rounds(), 0, kMaxRounds);
  root.In("evaluation")
      .Check(!spec.evaluation().central() ||
                 spec.data().partition().kind() != v1::Partition::KIND_LOCAL,
             "central",
             "with data.partition.kind local every site has test data of its own, and no worker "
             "has all; use federated");
  root.In("evaluation")
      .Enum("recalibration",
            v1::Evaluation::Recalibration_IsValid(spec.evaluation().recalibration()),
            spec.evaluation().recalibration());
  root.In("checkpoint").Whole("every_rounds", spec.checkpoint().every_rounds(), 0, kMaxRounds);
  root.In("checkpoint").Whole("keep", spec.checkpoint().keep(), 0, kMaxKept);
  CheckValues(spec, violations);
  return violations;
}

bool IsPruningMethod(std::string_view method) {
  constexpr std::array<std::string_view, 5> kNames = {"magnitude", "wanda", "sparsegpt", "dsnot",
                                                      "essential-sparsity"};
  return std::ranges::find(kNames, method) != kNames.end();
}

}  // namespace espalier::config
