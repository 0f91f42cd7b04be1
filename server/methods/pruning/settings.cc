#include "server/methods/pruning/settings.h"

#include "server/methods/parameters/params.h"

namespace espalier::server::methods {
namespace {

void AddSparseGpt(config::ParameterSchema& schema) {
  schema.push_back(params::Above(
      params::Number("damping", 0.01, 0, 10,
                     "SparseGPT: share of the mean diagonal that is added to the matrix of "
                     "input products.")));
}

void AddDsnot(config::ParameterSchema& schema) {
  schema.push_back(
      params::Word("init", "wanda", {"magnitude", "wanda", "sparsegpt"},
                   "Criterion of the mask that is refined; SparseGPT's weight update is not "
                   "applied."));
  schema.push_back(
      params::Word("refine", "attention", {"attention", "mlp", "all"},
                   "Which layers of a transformer's blocks are refined; the others keep "
                   "their initial mask. Of other networks all are."));
  schema.push_back(
      params::Whole("max_cycles", 0, 0, 100'000,
                    "Most exchanges in a row. 0: max(1, 50 · inputs / 4096, rounded), as many "
                    "for the row's width as the authors' 50 in rows of 4096."));
  schema.push_back(
      params::Number("threshold", 0.1, 0, 1e9,
                     "Expected output error of a row at which it is left alone, for sequences "
                     "of 2048 tokens; scaled with their length."));
  schema.push_back(
      params::Number("variance_power", 1.0, 0, 4,
                     "Power of the input's variance that a regrowing weight's contribution is "
                     "divided by; 0 ignores the variance."));
  schema.push_back(
      params::Word("sign_check", "auto", {"auto", "on", "off"},
                   "Refuse exchanges that turn the error's sign. auto: on for N:M patterns "
                   "and for networks that are no language models, off otherwise."));
  schema.push_back(
      params::Switch("monotone", false,
                     "Pass over exchanges that do not make a row's expected error smaller. "
                     "Not in the paper; for N:M patterns in rows of few inputs."));
  schema.push_back(
      params::Word("variance", "per_sequence", {"per_sequence", "pooled"},
                   "Variance of an input: mean of each sequence's (the authors' code) or over "
                   "all tokens. Networks that are no language models: always pooled."));
}

sparsity::Pattern PatternOf(const config::Parameters& parameters) {
  sparsity::Pattern pattern;
  pattern.sparsity = parameters.Double("sparsity");
  const std::string& name = parameters.Choice("pattern");
  if (const size_t colon = name.find(':'); colon != std::string::npos) {
    pattern.kept = std::stoi(name.substr(0, colon));
    pattern.group = std::stoi(name.substr(colon + 1));
    pattern.sparsity = 1.0 - static_cast<double>(pattern.kept) / pattern.group;
  }
  return pattern;
}

PruningCriterion CriterionOf(const std::string& name) {
  if (name == "magnitude") return PruningCriterion::kMagnitude;
  return name == "sparsegpt" ? PruningCriterion::kSparseGpt : PruningCriterion::kWanda;
}

BlockHalf HalfOf(const std::string& name) {
  if (name == "none") return BlockHalf::kNone;
  if (name == "all") return BlockHalf::kBoth;
  return name == "mlp" ? BlockHalf::kFeedForward : BlockHalf::kAttention;
}

}  // namespace

config::ParameterSchema PruningParameters(const std::string& method) {
  config::ParameterSchema schema;
  schema.push_back(params::Below(
      params::Share("sparsity", 0.5, "Share of each layer's weights that is pruned.")));
  schema.push_back(params::Word("pattern", "unstructured", {"unstructured", "1:4", "2:4", "4:8"},
                                "N:M keeps N of every M consecutive inputs and takes the place of "
                                "sparsity."));
  schema.push_back(params::Word("skip", "none", {"none", "attention", "mlp"},
                                "Half of a transformer's blocks that stays dense."));
  schema.push_back(
      params::Switch("layer_errors", false,
                     "Report each layer's output error. Needs the products of all pairs of "
                     "inputs: 8 bytes for each on coordinator and workers."));
  if (method == "sparsegpt" || method == "dsnot") AddSparseGpt(schema);
  if (method == "sparsegpt") {
    schema.push_back(params::Whole("block", 128, 1, 65'536,
                                   "Columns whose pruned weights are chosen together."));
  }
  if (method == "wanda") {
    schema.push_back(
        params::Switch("cumulative", false,
                       "Rows lose as many weights as hold the same share of their scores' sum, "
                       "instead of equally many (the authors' variant). Not with a pattern."));
  }
  if (method == "dsnot") AddDsnot(schema);
  return schema;
}

PruningSettings PruningSettingsOf(const std::string& method, const config::Parameters& parameters) {
  PruningSettings settings;
  settings.pattern = PatternOf(parameters);
  settings.skipped = HalfOf(parameters.Choice("skip"));
  settings.layer_errors = parameters.Bool("layer_errors");
  settings.criterion = CriterionOf(method == "dsnot" ? parameters.Choice("init") : method);
  if (method == "sparsegpt" || method == "dsnot") settings.damping = parameters.Double("damping");
  if (method == "wanda") settings.cumulative = parameters.Bool("cumulative");
  if (method == "sparsegpt") settings.block = parameters.Int("block");
  if (method != "dsnot") return settings;
  settings.refine = true;
  settings.refined = HalfOf(parameters.Choice("refine"));
  settings.dsnot.max_cycles = static_cast<int>(parameters.Int("max_cycles"));
  settings.dsnot.threshold = parameters.Double("threshold");
  settings.dsnot.power = parameters.Double("variance_power");
  const std::string& check = parameters.Choice("sign_check");
  settings.sign_check_is_auto = check == "auto";
  settings.dsnot.sign_check = check == "on" || (check == "auto" && settings.pattern.grouped());
  settings.dsnot.monotone = parameters.Bool("monotone");
  settings.dsnot.pooled_variance = parameters.Choice("variance") == "pooled";
  return settings;
}

bool NeedsGram(const PruningSettings& settings) {
  return settings.layer_errors || settings.criterion == PruningCriterion::kSparseGpt;
}

}  // namespace espalier::server::methods
