// Labelled examples in a table: a network of linear layers.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "client/cli/init/draft.h"
#include "client/cli/init/network.h"
#include "client/cli/init/sections.h"
#include "client/json/json.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

// Names that a column of labels often has.
constexpr std::array<std::string_view, 6> kLabelNames = {"label", "class",  "target",
                                                         "y",     "labels", "category"};
constexpr int64_t kManyWords = 100;

// A table as a job can read it.
struct Reading {
  v1::DataSpec view;
  Look look;
  std::string why;  // this column of labels

  const std::string& problem() const { return look.info.problem(); }
};

bool HasLabelName(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  return std::find(kLabelNames.begin(), kLabelNames.end(), lower) != kLabelNames.end();
}

// More classes than two for each example are no classes but numbers to be predicted, or names.
bool LooksLikeClasses(const v1::DatasetInfo& info) {
  const int64_t examples = info.train_examples() + info.test_examples();
  return info.classes() >= 2 && info.classes() * 2 <= std::max<int64_t>(examples, 4);
}

// What the job can say so that `problem` goes away; false when nothing is left to say. The problem
// names the option that helps.
bool Remedy(const std::string& problem, v1::DataSpec& view) {
  const bool gap = problem.find("data.missing") != std::string::npos;
  const bool word = problem.find("data.words") != std::string::npos;
  if (word && view.words() == v1::DataSpec::WORDS_UNSPECIFIED) {
    view.set_words(v1::DataSpec::WORDS_ONE_HOT);
    return true;
  }
  if (gap && view.missing() == v1::DataSpec::MISSING_UNSPECIFIED) {
    view.set_missing(v1::DataSpec::MISSING_MEAN);
    return true;
  }
  // A label without a value.
  if (gap && view.missing() == v1::DataSpec::MISSING_MEAN) {
    view.set_missing(v1::DataSpec::MISSING_DROP);
    return true;
  }
  return false;
}

// With what is needed of the options for gaps and words. `target`: what the column holds.
absl::StatusOr<Reading> ReadWithLabel(
    const Wishes& wishes, const std::string& label, const Looker& look,
    v1::DataSpec::Target target = v1::DataSpec::TARGET_UNSPECIFIED) {
  Reading reading;
  reading.view.set_target(target);
  if (wishes.kind == Kind::kTable) reading.view.set_format(v1::DataSpec::FORMAT_CSV);
  reading.view.set_label_column(label);
  reading.view.set_header(wishes.header);
  do {
    ESPALIER_ASSIGN_OR_RETURN(reading.look, look(&reading.view));
  } while (!reading.problem().empty() && Remedy(reading.problem(), reading.view));
  return reading;
}

bool IsUsable(const Reading& reading) {
  return reading.problem().empty() && LooksLikeClasses(reading.look.info);
}

// With the column of labels that has the name of one; not usable when there is none.
absl::StatusOr<Reading> ReadWithNamedLabel(const Wishes& wishes, const v1::DatasetInfo& columns,
                                           const Looker& look) {
  Reading none;
  none.look.info.set_problem("no column has the name of labels");
  for (const auto& column : columns.columns()) {
    if (!HasLabelName(column.name())) continue;
    ESPALIER_ASSIGN_OR_RETURN(Reading named, ReadWithLabel(wishes, column.name(), look));
    named.why = "as its name says";
    if (IsUsable(named)) return named;
  }
  return none;
}

// A column called as labels often are, else the last, else the first.
absl::StatusOr<Reading> FindLabel(const Wishes& wishes, const Looker& look) {
  ESPALIER_ASSIGN_OR_RETURN(Reading last, ReadWithLabel(wishes, "", look));
  last.why = "the last one";
  if (last.problem().empty() && HasLabelName(last.look.info.label_column())) return last;
  ESPALIER_ASSIGN_OR_RETURN(Reading named, ReadWithNamedLabel(wishes, last.look.info, look));
  if (IsUsable(named)) return named;
  // What is wrong with the features would be so with any label.
  const bool of_label =
      last.problem().empty() || last.problem().find("data.label_column") != std::string::npos;
  if (IsUsable(last) || !of_label) return last;
  ESPALIER_ASSIGN_OR_RETURN(Reading first, ReadWithLabel(wishes, "0", look));
  if (!first.problem().empty()) return last;
  // Now that the columns are known.
  ESPALIER_ASSIGN_OR_RETURN(named, ReadWithNamedLabel(wishes, first.look.info, look));
  if (IsUsable(named)) return named;
  first.why = "the first one, since the last holds numbers or names that are no classes";
  return IsUsable(first) ? first : last;
}

absl::StatusOr<Reading> ReadTable(const Wishes& wishes, const Looker& look) {
  ESPALIER_ASSIGN_OR_RETURN(Reading reading, wishes.label.empty()
                                                 ? FindLabel(wishes, look)
                                                 : ReadWithLabel(wishes, wishes.label, look));
  const v1::DatasetInfo& info = reading.look.info;
  const bool whole = info.problem().empty() && info.features() > 0;
  if (whole && LooksLikeClasses(info)) return reading;
  // Numbers, with fractions or too many different ones for classes.
  const bool numbers =
      whole ? info.class_names().empty() : info.problem().find("data.target") != std::string::npos;
  if (numbers) {
    ESPALIER_ASSIGN_OR_RETURN(
        Reading values, ReadWithLabel(wishes, wishes.label, look, v1::DataSpec::TARGET_VALUES));
    values.why = wishes.label.empty() ? "the last one" : "";
    if (values.problem().empty()) return values;
  }
  if (!info.problem().empty()) return Unusable(info.problem());
  if (info.features() == 0) return TooLarge();
  return Unusable(fmt::format(
      "expected a column of labels, found {} different values in {} examples in column {}, which "
      "look like names of the examples; name the column of the classes, or of the numbers that are "
      "to be predicted, with --label, by its name or by its place counted from 0",
      config::Grouped(info.classes()),
      config::Grouped(info.train_examples() + info.test_examples()),
      config::Quoted(info.label_column())));
}

bool LearnsNumbers(const Reading& reading) {
  return reading.view.target() == v1::DataSpec::TARGET_VALUES;
}

// The column that is learned, by its name or place.
std::string LabelColumn(const Reading& reading) {
  const v1::DatasetInfo& info = reading.look.info;
  if (!LearnsNumbers(reading)) return info.label_column();
  if (info.target_columns_size() > 0) return info.target_columns(0);
  return reading.view.label_column().empty() ? "-1" : reading.view.label_column();
}

std::string LabelName(const Reading& reading) {
  const v1::DatasetInfo& info = reading.look.info;
  const std::string name = base::PrintablePrefix(LabelColumn(reading), 60);
  return info.header() ? fmt::format("'{}'", name) : fmt::format("{} (counted from 0)", name);
}

// "column 'ash'", or the place among the features without a header.
std::string ColumnName(const v1::DatasetInfo& info, int index) {
  const std::string& name = info.columns(index).name();
  return name.empty() ? fmt::format("feature {}", index + 1) : "'" + name + "'";
}

// The lines that tables with gaps and words need, and what is told of them.
std::string GapsAndWords(const Reading& reading, Draft& draft) {
  const v1::DatasetInfo& info = reading.look.info;
  int64_t gaps = 0;
  std::vector<std::string> gappy;
  std::vector<std::string> wordy;
  for (int i = 0; i < info.columns_size(); ++i) {
    const auto& column = info.columns(i);
    gaps += column.missing();
    if (column.missing() > 0) gappy.push_back(ColumnName(info, i));
    if (column.words_size() == 0) continue;
    wordy.push_back(fmt::format("{} ({})", ColumnName(info, i), column.words_size()));
    if (column.words_size() > kManyWords) {
      draft.findings.push_back(
          fmt::format("The column {} has {} different words: if it names the examples, remove it "
                      "from the file.",
                      ColumnName(info, i), column.words_size()));
    }
  }
  std::string lines;
  if (reading.view.missing() == v1::DataSpec::MISSING_MEAN) {
    const std::string cells =
        fmt::format("{} without a value, in {}", Counted(gaps, "cell"), Names(gappy));
    draft.findings.push_back("There " + std::string(gaps == 1 ? "is " : "are ") + cells +
                             ": the column's mean takes their place.");
    lines += fmt::format(
        "  # {}. `drop` would leave these examples out.\n"
        "  missing: mean\n",
        cells);
  }
  if (reading.view.missing() == v1::DataSpec::MISSING_DROP) {
    draft.findings.emplace_back("Examples without a label or another value are left out.");
    lines += "  missing: drop  # there are examples without a label: they are left out\n";
  }
  if (reading.view.words() == v1::DataSpec::WORDS_ONE_HOT) {
    draft.findings.push_back(fmt::format("Words become features, one for each: {}.", Names(wordy)));
    lines += fmt::format(
        "  # One feature, 0 or 1, for each word of a column: {}.\n"
        "  words: one_hot\n",
        Names(wordy));
  }
  return lines;
}

std::string DataSection(const Source& source, const Wishes& wishes, const Reading& reading,
                        Draft& draft) {
  const v1::DatasetInfo& info = reading.look.info;
  std::string text = fmt::format("data:\n  dataset: {}\n", YamlName(source.name));
  if (wishes.kind == Kind::kTable) text += "  format: csv\n";
  if (wishes.header == v1::DataSpec::HEADER_PRESENT) text += "  header: present\n";
  if (wishes.header == v1::DataSpec::HEADER_ABSENT) text += "  header: absent\n";
  if (LearnsNumbers(reading)) {
    text += fmt::format(
        "  # Numbers are learned. There may be several columns, by name or by place from 0, each "
        "an\n"
        "  # output of the model. Numbers far from 1 learn badly: divide them in the file first.\n"
        "  target: values\n"
        "  target_columns: [{}]\n",
        client::QuotedText(LabelColumn(reading)));
  } else {
    text += fmt::format(
        "  # Classes: {}. A column is named by its header or by its place from 0.\n"
        "  label_column: {}\n",
        ClassesOf(info), client::QuotedText(info.label_column()));
  }
  text += GapsAndWords(reading, draft);
  text += NormalizationLine(info.features(), "feature");
  return text + HoldOutLine(info, 0.2);
}

}  // namespace

absl::StatusOr<Draft> TableJob(const Source& source, const Wishes& wishes, const Looker& look) {
  ESPALIER_ASSIGN_OR_RETURN(const Reading reading, ReadTable(wishes, look));
  const v1::DatasetInfo& info = reading.look.info;
  const Network network = LinearNetwork(info);
  ESPALIER_ASSIGN_OR_RETURN(
      const MethodChoice method,
      ChooseMethod(wishes.method, network.density, {"set", "rigl", "static", "dense"}));
  const bool held_out = info.test_examples() == 0;
  Draft draft;
  draft.dataset = info;
  const std::string size = held_out ? Counted(info.train_examples(), "example")
                                    : fmt::format("{} examples and {} for testing",
                                                  config::Grouped(info.train_examples()),
                                                  config::Grouped(info.test_examples()));
  draft.findings.push_back(
      fmt::format("It is a table ({}s between cells, {} header) of {} with {} and {}.",
                  info.delimiter(), info.header() ? "with a" : "without", size,
                  Counted(info.columns_size(), "column of features", "columns of features"),
                  LearnsNumbers(reading) ? "numbers to be predicted"
                                         : Counted(info.classes(), "class", "classes")));
  const std::string why = reading.why.empty() ? "" : ", " + reading.why;
  draft.findings.push_back(
      LearnsNumbers(reading)
          ? fmt::format("The numbers are in column {}{}. --label names another.",
                        LabelName(reading), why)
          : fmt::format("The labels are in column {}{}: {}. --label names another.",
                        LabelName(reading), why, ClassesOf(info)));
  Compose(source, wishes,
          {.heading = Heading(
               source, fmt::format("a table of {}, label {}",
                                   Counted(info.train_examples(), "line"), LabelName(reading))),
           .network = network.section,
           .work = network.work,
           .data = DataSection(source, wishes, reading, draft),
           .method = method,
           .evaluate_every = 1,
           .has_classes = !LearnsNumbers(reading)},
          draft);
  TellIfSorted(source, reading.look, draft);
  return draft;
}

}  // namespace espalier::cli::init
