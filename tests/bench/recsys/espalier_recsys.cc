// espalier-bench-recsys: time, memory and quality of a recommender in one process.
//
// Prints one JSON object for every evaluation and one at the end. Data: a folder with train.txt and
// test.txt (or .gz) of lines `user item item …`. Sparsifiable tensors have --density (dense at 1);
// Adam with a cosine from --learning-rate to --final-learning-rate. Peer of LightGCN:
// pytorch_lightgcn.py.
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/io/gzip.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "fmt/format.h"
#include "worker/recommender/ranking.h"
#include "worker/recommender/recommender_model.h"

namespace espalier {
namespace {

using worker::recommender::Interactions;
using worker::recommender::RankingSums;
using worker::recommender::RecommenderModel;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

struct Options {
  std::string data;
  std::string model = "lightgcn";
  bool lazy_rows = false;
  double density = 0.2;
  int64_t dimensions = 64;
  int layers = 3;
  int64_t batch = 1024;
  int threads = 1;
  int64_t epochs = 3;
  int64_t steps_per_epoch = 0;
  int64_t evaluate_every = 0;
  double learning_rate = 0.01;
  double final_learning_rate = 1e-4;
  double l2 = 1e-4;
  double deviation = 0;
  uint64_t seed = 1;
};

[[noreturn]] void Fail(const std::string& message) {
  fmt::print(stderr, "espalier-bench-recsys: {}\n", message);
  std::exit(1);
}

template <typename T>
T ValueOrFail(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(base::MessageOf(result.status()));
  return std::move(result).value();
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Processor time of the whole process: a fair measure while other programs share the machine.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

int64_t PeakBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// The bytes that the process has in memory now.
int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

using Lists = std::vector<std::vector<int32_t>>;

Lists ReadLists(const std::string& folder, const std::string& name) {
  std::string path = folder + "/" + name;
  if (!std::filesystem::exists(path)) path += ".gz";
  const std::string text = ValueOrFail(io::ReadFileMaybeGzip(path, kMaxFileBytes));
  Lists lists;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    std::vector<int32_t> numbers;
    while (at < end && *at != '\n') {
      int32_t number = 0;
      const auto [next, error] = std::from_chars(at, end, number);
      if (error != std::errc() || number < 0) Fail(path + ": expected numbers ≥ 0");
      numbers.push_back(number);
      at = next;
      while (at < end && (*at == ' ' || *at == '\r')) ++at;
    }
    ++at;
    if (numbers.empty()) continue;
    const auto user = static_cast<size_t>(numbers[0]);
    if (lists.size() <= user) lists.resize(user + 1);
    lists[user].assign(numbers.begin() + 1, numbers.end());
    std::ranges::sort(lists[user]);
  }
  return lists;
}

Interactions Pack(const Lists& lists, size_t users, int64_t items) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  for (size_t user = 0; user < users; ++user) {
    if (user < lists.size()) {
      columns.insert(columns.end(), lists[user].begin(), lists[user].end());
    }
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  return ValueOrFail(Interactions::Create(items, std::move(offsets), std::move(columns)));
}

struct Data {
  std::shared_ptr<const Interactions> train;
  Interactions test;
};

Data Load(const std::string& folder) {
  const Lists train = ReadLists(folder, "train.txt");
  const Lists test = ReadLists(folder, "test.txt");
  int64_t items = 0;
  for (const Lists* lists : {&train, &test}) {
    for (const auto& row : *lists) {
      if (!row.empty()) items = std::max<int64_t>(items, row.back() + 1);
    }
  }
  const size_t users = std::max(train.size(), test.size());
  return {std::make_shared<const Interactions>(Pack(train, users, items)),
          Pack(test, users, items)};
}

v1::RecommenderSpec SpecOf(const Options& options, const Data& data) {
  v1::RecommenderSpec spec;
  spec.set_users(data.train->users());
  spec.set_items(data.train->items());
  if (options.model == "neumf") {
    spec.mutable_neumf();
  } else if (options.model == "multvae") {
    spec.mutable_multvae();
  } else if (options.model == "autoint") {
    spec.mutable_autoint();
  } else {
    v1::LightGcnModel& model = *spec.mutable_lightgcn();
    model.set_dimensions(options.dimensions);
    model.set_layers(options.layers);
    model.set_l2(options.l2);
    model.set_initial_deviation(options.deviation);
  }
  return wire::ExplicitRecommender(spec);
}

std::shared_ptr<const tensor::ModelTopology> MakeTopology(
    const Options& options, const std::vector<wire::ModelTensor>& tensors) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (const wire::ModelTensor& tensor : tensors) {
    layout->push_back(tensor.spec);
    const auto count = std::llround(options.density * static_cast<double>(tensor.spec.size()));
    topologies.push_back(nullptr);
    if (!tensor.spec.sparsifiable) continue;
    if (count >= tensor.spec.size()) continue;
    topologies.back() = std::make_shared<const tensor::Topology>(ValueOrFail(
        sparsity::RandomTopology(tensor.spec.rows, tensor.spec.cols, count,
                                 base::StreamKey(options.seed, "topology", {topologies.size()}))));
  }
  return std::make_shared<const tensor::ModelTopology>(
      ValueOrFail(tensor::ModelTopology::Create(std::move(layout), std::move(topologies))));
}

std::vector<float> InitialValues(const Options& options,
                                 const std::vector<wire::ModelTensor>& tensors,
                                 const tensor::ModelTopology& topology) {
  std::vector<float> values(topology.total_stored());
  base::Rng rng(base::StreamKey(options.seed, "init", {}));
  for (size_t t = 0; t < tensors.size(); ++t) {
    // Glorot's where the layout says no deviation; biases begin at 0.
    const double glorot =
        std::sqrt(2.0 / static_cast<double>(tensors[t].spec.rows + tensors[t].spec.cols));
    const double given = tensors[t].deviation;
    const double deviation = given > 0                                      ? given
                             : tensors[t].role == wire::TensorRole::kWeight ? glorot
                                                                            : 0;
    for (int64_t k = 0; k < topology.stored(t); ++k) {
      values[topology.offset(t) + k] = static_cast<float>(rng.Normal() * deviation);
    }
  }
  return values;
}

void Evaluate(const Options& options, const Data& data, RecommenderModel& model, int64_t epoch,
              double loss) {
  const double start = Now();
  const double cpu_start = CpuSeconds();
  const int64_t cutoff = 20;
  const RankingSums sums = RankAllItems(*model.MakeScorer(*data.train), *data.train, data.test,
                                        std::span(&cutoff, 1), options.threads);
  const auto users = static_cast<double>(sums.users);
  fmt::print(
      "{{\"epoch\": {}, \"loss\": {:.5f}, \"users\": {}, \"recall@20\": {:.5f}, \"ndcg@20\": "
      "{:.5f}, \"precision@20\": {:.5f}, \"ranking_seconds\": {:.2f}, \"ranking_cpu_seconds\": "
      "{:.2f}}}\n",
      epoch, loss, sums.users, sums.at[0].recall / users, sums.at[0].ndcg / users,
      sums.at[0].precision / users, Now() - start, CpuSeconds() - cpu_start);
  std::fflush(stdout);
}

double LearningRate(const Options& options, int64_t epoch) {
  const double share = static_cast<double>(epoch) / static_cast<double>(options.epochs);
  return options.final_learning_rate + (options.learning_rate - options.final_learning_rate) *
                                           (1 + std::cos(std::numbers::pi * share)) / 2;
}

int Run(const Options& options) {
  const Data data = Load(options.data);
  const v1::RecommenderSpec spec = SpecOf(options, data);
  const auto tensors = ValueOrFail(wire::RecommenderTensors(spec));
  const int64_t resident_before = ResidentBytes();
  const auto topology = MakeTopology(options, tensors);
  worker::engine::OptimizerSpec optimizer;
  optimizer.kind = worker::engine::OptimizerSpec::Kind::kAdam;
  optimizer.lazy_rows = options.lazy_rows;
  auto model = ValueOrFail(RecommenderModel::Create(spec, optimizer, topology, data.train,
                                                    options.batch, options.threads));
  if (!model->SetValues(InitialValues(options, tensors, *topology)).ok()) Fail("wrong values");
  const int64_t steps =
      options.steps_per_epoch > 0 ? options.steps_per_epoch : model->StepsPerEpoch(options.batch);
  std::vector<double> seconds;
  std::vector<double> cpu_seconds;
  int64_t index = 0;
  double loss = 0;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    const double start = Now();
    const double cpu_start = CpuSeconds();
    loss = 0;
    for (int64_t s = 0; s < steps; ++s) {
      loss += model
                  ->Train({.index = index++,
                           .batch_size = options.batch,
                           .learning_rate = LearningRate(options, epoch),
                           .seed = options.seed})
                  .loss;
    }
    loss /= static_cast<double>(steps);
    seconds.push_back(Now() - start);
    cpu_seconds.push_back(CpuSeconds() - cpu_start);
    if (options.evaluate_every > 0 && (epoch + 1) % options.evaluate_every == 0) {
      Evaluate(options, data, *model, epoch + 1, loss);
    }
  }
  const int64_t peak = PeakBytes();
  const int64_t dense = 3 * 4 * topology->total_size();
  int64_t structure = 0;
  for (size_t t = 0; t < topology->num_tensors(); ++t) {
    if (topology->is_sparse(t)) {
      structure += 4 * (topology->topology(t).nnz() + topology->topology(t).rows() + 1);
    }
  }
  fmt::print(
      "{{\"model\": \"{}\", \"lazy_rows\": {}, \"density\": {}, \"batch\": {}, \"threads\": {}, "
      "\"steps\": {}, \"stored\": {}, "
      "\"epoch_seconds_min\": {:.3f}, \"epoch_cpu_seconds_min\": {:.3f}, \"step_ms\": {:.2f}, "
      "\"peak_rss_bytes\": {}, \"rss_bytes_before_model\": {}, \"state_bytes\": {}, "
      "\"dense_state_bytes\": {}, \"loss\": {:.5f}}}\n",
      options.model, options.lazy_rows, options.density, options.batch, options.threads, steps,
      topology->total_stored(), std::ranges::min(seconds), std::ranges::min(cpu_seconds),
      std::ranges::min(seconds) / static_cast<double>(steps) * 1e3, peak, resident_before,
      12 * topology->total_stored() + structure, dense, loss);
  return 0;
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Options options;
  CLI::App app("A recommender in one process");
  app.add_option("--data", options.data, "Folder with train.txt and test.txt")->required();
  app.add_option("--model", options.model, "Other models than lightgcn have their defaults")
      ->check(CLI::IsMember({"lightgcn", "neumf", "multvae", "autoint"}));
  app.add_flag("--lazy-rows", options.lazy_rows, "As training.optimizer.lazy_rows");
  app.add_option("--density", options.density, "Of what is sparsifiable; 1 = dense")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--dimensions", options.dimensions)->check(CLI::PositiveNumber);
  app.add_option("--layers", options.layers)->check(CLI::Range(0, 8));
  app.add_option("--batch", options.batch, "Triples, positives or users per step")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads)->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs)->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps_per_epoch,
                 "Steps per epoch; 0: all interactions or users");
  app.add_option("--evaluate-every", options.evaluate_every, "Epochs; 0: never");
  app.add_option("--learning-rate", options.learning_rate);
  app.add_option("--final-learning-rate", options.final_learning_rate);
  app.add_option("--l2", options.l2);
  app.add_option("--deviation", options.deviation, "Of first embeddings; 0: Xavier's");
  app.add_option("--seed", options.seed);
  CLI11_PARSE(app, argc, argv);
  return espalier::Run(options);
}
