#include "client/cli/init/sections.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "client/cli/init/shell.h"
#include "client/json/json.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostShownOfName = 60;
// Total variation between the end of a file and all of it beyond which it counts as sorted.
constexpr double kSortedBeyond = 0.3;

const std::map<std::string, const char*>& Explanations() {
  static const std::map<std::string, const char*> kExplanations = {
      {"set", "drops the weakest weights after each round and grows as many at random places"},
      {"rigl", "drops the weakest weights and grows others where the gradient is largest"},
      {"static", "a random sparse structure that stays as it is"},
      {"dsl", "sparse embedding tables, whose entries are dropped and grown while it trains"},
      {"dense", "all weights exist: federated averaging"}};
  return kExplanations;
}

// Files of tables that a shell can shuffle.
std::vector<fs::path> TableFiles(const std::string& folder) {
  std::vector<fs::path> files;
  const auto names = io::PosixFileSystem().List(folder);
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    const std::string ending = fs::path(name).extension().string();
    if (ending == ".csv" || ending == ".tsv" || ending == ".txt") {
      files.push_back(fs::path(folder) / name);
    }
  }
  return files;
}

std::string ShuffleCommand(const std::string& file, bool header) {
  const std::string word = ShellWord(file);
  if (!header) return fmt::format("shuf -o {} {}", word, word);
  const std::string mixed = ShellWord(file + ".mixed");
  return fmt::format("(head -n 1 {} && tail -n +2 {} | shuf) >{} && mv {} {}", word, word, mixed,
                     mixed, word);
}

}  // namespace

absl::Status Unusable(const std::string& problem) {
  return base::FailedPrecondition("DATA_UNUSABLE",
                                  absl::StrReplaceAll(problem, {{"data.label_column", "--label"},
                                                                {"data.header", "--header"},
                                                                {"data.text.field", "--field"}}));
}

absl::Status TooLarge() {
  return Unusable(
      "expected files of at most 256 MiB after decompression, found a larger one; try `espalier "
      "init` on its first part, and use the job file for all of it");
}

std::string Heading(const Source& source, const std::string& what) {
  return fmt::format(
      "# Written by `espalier init` for {}: {}.\n"
      "# Change what you like; `espalier job submit FILE --watch` runs it on a cluster that has "
      "the\n"
      "# data. All fields: docs/reference/job-file.md; data: docs/data-sets.md; the parameters of "
      "a\n"
      "# method: espalier method describe NAME.\n",
      source.name, what);
}

std::string YamlName(const std::string& name) {
  return absl::AsciiStrToLower(name) == "null" ? client::QuotedText(name) : name;
}

std::string Names(const std::vector<std::string>& names, size_t most) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == most) break;
    shown.push_back(base::PrintablePrefix(name, kMostShownOfName));
  }
  std::string text = config::Joined(shown, ", ");
  if (names.size() > most) text += fmt::format(" and {} more", names.size() - most);
  return text;
}

std::string Counted(int64_t count, const std::string& thing, const std::string& things) {
  return fmt::format("{} {}", config::Grouped(count),
                     count == 1       ? thing
                     : things.empty() ? thing + "s"
                                      : things);
}

absl::StatusOr<MethodChoice> ChooseMethod(const std::string& wished, double density,
                                          const std::vector<std::string>& fits) {
  const std::string name = wished.empty() ? fits.front() : wished;
  if (std::find(fits.begin(), fits.end(), name) == fits.end()) {
    return base::InvalidArgument(
        "USAGE", fmt::format("--method: expected one of {} for such data, found {}; others are "
                             "written into the file by hand, see `espalier method list`",
                             config::Joined(fits, ", "), config::Quoted(name)));
  }
  std::string section = fmt::format("method:\n  name: {}  # {}\n", name, Explanations().at(name));
  if (name != "dense") {
    // A learning rate that falls to 0 leaves no time for weights that begin anywhere else.
    section += fmt::format(
        "  # The share of weights that exists, from the first step to the last{}.\n"
        "  parameters: {{density: {:.2g}{}}}\n",
        name == "set" ? "; new ones begin at 0" : "", density,
        name == "set" ? ", grown_weights: zero" : "");
  }
  std::vector<std::string> others;
  for (const std::string& other : fits) {
    if (other != name) others.push_back(other);
  }
  const char* hint = name == "set"     ? ": they have no grown_weights, and dense has no parameters"
                     : name == "dense" ? ""
                                       : "; dense has no parameters";
  section += fmt::format("  # Or {}{}", config::Joined(others, ", "), hint);
  if (name == "dense") section += fmt::format(", with parameters: {{density: {:.2g}}}", density);
  return MethodChoice{name, section};
}

std::string PartitionSection(int shards, bool classes) {
  const std::string uneven = fmt::format(
      "  # partition: {{kind: dirichlet, shards: {}, alpha: 0.5}}  # shares with uneven classes\n",
      shards);
  return fmt::format(
      "  # All workers have these files. They are divided into {0} shares, for as many workers.\n"
      "  partition: {{kind: iid, shards: {0}}}\n"
      "{1}"
      "  # partition: {{kind: local}}  # every site has files of its own under this name",
      shards, classes ? uneven : "");
}

std::string ClassesOf(const v1::DatasetInfo& info) {
  if (info.class_names_size() == 0) {
    return fmt::format("whole numbers, 0 to {}", info.classes() - 1);
  }
  return Names({info.class_names().begin(), info.class_names().end()});
}

int64_t TrainingExamples(const v1::DatasetInfo& info) {
  return info.test_examples() == 0 ? info.train_examples() * 4 / 5 : info.train_examples();
}

void Compose(const Source& source, const Wishes& wishes, const Classifier& parts, Draft& draft) {
  constexpr double kLearningRate = 0.05;
  const int64_t train = TrainingExamples(draft.dataset);
  const Schedule schedule = ScheduleFor(train, parts.work, wishes.workers);
  draft.rounds = schedule.rounds;
  draft.file =
      fmt::format("{}\ndisplay_name: {}, {}\n{}\n{}{}\n{}\n{}\n{}\nseed: 1\n", parts.heading,
                  source.name, parts.method.name, parts.network, parts.data,
                  PartitionSection(wishes.workers, parts.has_classes), parts.method.section,
                  TrainingSections(schedule, train, wishes.workers, kLearningRate),
                  EvaluationSection(parts.evaluate_every));
}

Schedule ScheduleFor(int64_t train, double work, int shards) {
  constexpr double kPresentations = 600'000;
  constexpr int64_t kRounds = 60;
  constexpr int64_t kFewRounds = 20;
  const auto examples = static_cast<double>(std::max<int64_t>(train, 1));
  double passes = std::clamp(kPresentations / examples, 12.0, 300.0);
  passes = std::min(passes, kMostWork / (work * examples));
  const double share = examples / shards;
  Schedule schedule;
  schedule.batch_size = share < 100 ? 8 : share < 1000 ? 16 : share < 20'000 ? 32 : 64;
  schedule.rounds = passes >= static_cast<double>(kRounds) ? kRounds : kFewRounds;
  const double epochs = passes / static_cast<double>(schedule.rounds);
  if (epochs >= 0.5) {
    schedule.local_epochs = std::max<int64_t>(1, std::llround(epochs));
  } else {
    const double steps = epochs * share / static_cast<double>(schedule.batch_size);
    schedule.local_steps = std::max<int64_t>(1, std::llround(steps));
  }
  return schedule;
}

std::string TrainingSections(const Schedule& schedule, int64_t train, int shards,
                             double learning_rate) {
  const int64_t share = std::max<int64_t>(1, train / shards);
  std::string amount;
  if (schedule.local_epochs > 0) {
    amount = fmt::format("  local_epochs: {}  # passes over a share, {}, in each round",
                         schedule.local_epochs, Counted(share, "example"));
  } else {
    amount = fmt::format(
        "  local_steps: {}  # minibatches in each round: {} of a share's {} examples",
        schedule.local_steps, config::Grouped(schedule.local_steps * schedule.batch_size),
        config::Grouped(share));
  }
  return fmt::format(
      "training:\n"
      "  batch_size: {}\n"
      "{}\n"
      "  optimizer: {{kind: sgd, learning_rate: {}, momentum: 0.9, weight_decay: 0.0001}}\n"
      "  schedule: {{kind: cosine}}  # the learning rate falls to 0 towards the last round\n"
      "federation:\n"
      "  rounds: {}  # after each, the workers' weights are averaged and the structure changes",
      schedule.batch_size, amount, learning_rate, schedule.rounds);
}

std::string NormalizationLine(int64_t count, std::string_view what) {
  constexpr int64_t kMost = 10'000;
  if (count > kMost) return "";
  return fmt::format(
      "  normalization: federated  # mean 0 and standard deviation 1, over all sites, of each {}\n",
      what);
}

std::string HoldOutLine(const v1::DatasetInfo& info, double share) {
  if (info.test_examples() > 0 || info.test_bytes() > 0) return "";
  return fmt::format(
      "  # There is no test file: the last {:.0f} % of the examples are kept for testing.\n"
      "  test_fraction: {}\n",
      100 * share, share);
}

std::string EvaluationSection(int64_t every) {
  return fmt::format(
      "evaluation:\n"
      "  every_rounds: {}  # on the examples for testing; with partition local at each site",
      every);
}

void TellIfSorted(const Source& source, const Look& look, Draft& draft) {
  if (look.last_fifth <= kSortedBeyond) return;
  draft.findings.emplace_back(
      "The examples are sorted by class: the last fifth, which is kept for testing, has other "
      "classes than the rest, so that what is learned could not be tested. Mix them first.");
  const std::vector<fs::path> files = TableFiles(source.folder);
  if (look.info.format() == "csv" && files.size() == 1) {
    draft.before.push_back(
        {ShuffleCommand(files[0].string(), look.info.header()), "mix the lines"});
  }
}

}  // namespace espalier::cli::init
