// espalier-bench-epoch: time and memory of training epochs of a multilayer perceptron or a named
// convolutional network.
//
// Prints one JSON object. An epoch is what a worker does: shuffle, assemble every batch from the
// bytes of the data set, train on it; without augmentation. Layers are sparse at --density (all
// dense at 1), but for the output layer of a perceptron; ReLU, cross-entropy, SGD with Nesterov
// momentum. Peer: pytorch_epoch.py beside this file.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/named_models.h"
#include "fmt/format.h"
#include "server/methods/initial_values.h"
#include "server/methods/structure.h"
#include "worker/data/batch.h"
#include "worker/data/load.h"
#include "worker/engine/network.h"
#include "worker/tasks/network/network_cache.h"

namespace espalier {
namespace {

namespace methods = server::methods;
using worker::engine::AlignedBuffer;
using worker::engine::Batch;
using worker::engine::Network;

struct Options {
  std::string arch = "3072-1024-1024-10";
  std::string model;  // a named model for CIFAR-10 instead
  std::string distribution = "uniform";
  double density = 0.05;
  double epsilon = 0;  // > 0: SET's ε·(inputs + outputs) weights in each layer instead of a density
  int64_t batch = 100;
  int threads = 1;
  std::string data;
  int64_t examples = 50000;
  int epochs = 3;
  double learning_rate = 0.01;
};

struct EpochResult {
  double seconds = 0;
  double cpu_seconds = 0;
  double loss = 0;
  double accuracy = 0;
};

[[noreturn]] void Fail(const std::string& message) {
  fmt::print(stderr, "espalier-bench-epoch: {}\n", message);
  std::exit(1);
}

template <typename T>
T ValueOrFail(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(base::MessageOf(result.status()));
  return std::move(result).value();
}

// Processor time of the whole process: a fair measure while other programs share the machine.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double Median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<int64_t>(values.size() / 2));
  return values[values.size() / 2];
}

std::vector<int64_t> ParseArch(const std::string& arch) {
  std::vector<int64_t> sizes;
  for (const std::string& part : CLI::detail::split(arch, '-')) {
    sizes.push_back(std::atoll(part.c_str()));
    if (sizes.back() < 1) Fail("--arch must look like 3072-1024-1024-10, found " + arch);
  }
  if (sizes.size() < 2) Fail("--arch needs an input and an output size, found " + arch);
  return sizes;
}

std::shared_ptr<const worker::data::Dataset> Synthetic(int64_t examples, int64_t features,
                                                       int32_t classes) {
  worker::data::DatasetBuilder builder;
  if (!builder.SetFeatures(features, "synthetic").ok()) Fail("too many features");
  uint8_t* bytes = ValueOrFail(builder.AppendByteRows(examples));
  base::Rng rng(1);
  for (int64_t i = 0; i < examples * features; ++i) bytes[i] = static_cast<uint8_t>(rng.Next32());
  for (int64_t i = 0; i < examples; ++i) {
    builder.AppendLabel(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(classes))));
  }
  builder.EndTraining();
  return std::make_shared<const worker::data::Dataset>(builder.Finish("synthetic", "idx", classes));
}

std::shared_ptr<const worker::data::Dataset> Load(const Options& options,
                                                  const std::vector<int64_t>& sizes) {
  if (options.data.empty()) {
    return Synthetic(options.examples, sizes.front(), static_cast<int32_t>(sizes.back()));
  }
  const auto path = std::filesystem::canonical(options.data);
  v1::DataSpec spec;
  spec.set_dataset(path.filename().string());
  auto dataset = ValueOrFail(worker::data::LoadDataset(path.parent_path().string(), spec));
  if (dataset->features() != sizes.front() || dataset->num_classes() > sizes.back()) {
    Fail(fmt::format("--arch has {} inputs and {} outputs, the data {} features and {} classes",
                     sizes.front(), sizes.back(), dataset->features(), dataset->num_classes()));
  }
  return dataset;
}

v1::ModelSpec MakeSpec(const Options& options, const std::vector<int64_t>& sizes) {
  v1::ModelSpec spec;
  if (!options.model.empty()) {
    spec.set_name(options.model);
    return wire::ExplicitModel(spec);
  }
  spec.set_input_features(sizes.front());
  for (size_t i = 1; i < sizes.size(); ++i) {
    v1::LinearLayer& layer = *spec.add_layers()->mutable_linear();
    layer.set_units(sizes[i]);
    const bool last = i + 1 == sizes.size();
    layer.set_dense(last);
    layer.set_activation(last ? v1::ACTIVATION_LINEAR : v1::ACTIVATION_RELU);
  }
  return spec;
}

methods::Budget BudgetOf(const Options& options) {
  if (options.epsilon > 0) return {.distribution = "set_epsilon", .epsilon = options.epsilon};
  return {.distribution = options.distribution, .density = options.density};
}

std::shared_ptr<const tensor::ModelState> MakeModel(const Options& options,
                                                    const v1::ModelSpec& spec) {
  const auto layout = ValueOrFail(wire::LayoutOf(spec));
  auto structure = ValueOrFail(methods::RandomStructure(*layout, BudgetOf(options), 1));
  tensor::ModelState model;
  model.topology = std::make_shared<const tensor::ModelTopology>(
      ValueOrFail(tensor::ModelTopology::Create(layout, std::move(structure))));
  model.values = methods::InitialValues(spec, *model.topology, 7);
  return std::make_shared<const tensor::ModelState>(std::move(model));
}

Network& MakeNetwork(const Options& options, const v1::ModelSpec& spec,
                     const std::shared_ptr<const tensor::ModelState>& model,
                     worker::tasks::NetworkCache& networks) {
  v1::Task task;
  *task.mutable_model()->mutable_spec() = spec;
  v1::Optimizer& optimizer = *task.mutable_train()->mutable_training()->mutable_optimizer();
  optimizer.set_momentum(0.9);
  optimizer.set_nesterov(true);
  return *ValueOrFail(networks.Get(task, model, static_cast<int>(options.batch)));
}

EpochResult RunEpoch(const Options& options, const worker::data::Dataset& dataset, uint64_t epoch,
                     Network& network) {
  const worker::data::Normalization normalization = {.scale = 255, .mean = 0.5, .std = 0.25};
  std::vector<int32_t> order(dataset.train_rows());
  std::iota(order.begin(), order.end(), 0);
  AlignedBuffer features(dataset.features() * network.batch_stride());
  std::vector<int32_t> labels(options.batch);
  EpochResult result;
  const auto start = std::chrono::steady_clock::now();
  const double cpu_start = CpuSeconds();
  base::Rng rng(base::StreamKey(1, "shuffle", {epoch}));
  base::Shuffle(std::span<int32_t>(order), rng);
  for (size_t first = 0; first < order.size(); first += options.batch) {
    const size_t size = std::min<size_t>(options.batch, order.size() - first);
    worker::data::AssembleBatch(dataset, std::span<const int32_t>(order).subspan(first, size),
                                normalization, features.data(), network.batch_stride(),
                                labels.data());
    const Batch batch = {features.data(), labels.data(), static_cast<int64_t>(size),
                         network.batch_stride()};
    const auto step = network.Train(batch, options.learning_rate, epoch);
    result.loss += step.loss_sum;
    result.accuracy += static_cast<double>(step.correct);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.cpu_seconds = CpuSeconds() - cpu_start;
  result.loss /= static_cast<double>(order.size());
  result.accuracy /= static_cast<double>(order.size());
  return result;
}

int Run(const Options& options) {
  const std::vector<int64_t> sizes =
      options.model.empty() ? ParseArch(options.arch) : std::vector<int64_t>{3 * 32 * 32, 10};
  const auto dataset = Load(options, sizes);
  const v1::ModelSpec spec = MakeSpec(options, sizes);
  const auto model = MakeModel(options, spec);
  worker::tasks::NetworkCache networks(options.threads);
  Network& network = MakeNetwork(options, spec, model, networks);
  EpochResult last;
  std::vector<double> seconds;
  std::vector<double> cpu_seconds;
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    last = RunEpoch(options, *dataset, static_cast<uint64_t>(epoch), network);
    seconds.push_back(last.seconds);
    cpu_seconds.push_back(last.cpu_seconds);
  }
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print(
      "{{\"arch\": \"{}\", \"density\": {}, \"epsilon\": {}, \"batch\": {}, \"threads\": {}, "
      "\"examples\": {}, "
      "\"parameters\": {}, \"epoch_seconds_median\": {:.4f}, \"epoch_seconds_min\": {:.4f}, "
      "\"epoch_cpu_seconds_median\": {:.4f}, \"peak_rss_bytes\": {}, \"data_bytes\": {}, "
      "\"train_loss\": {:.5f}, \"train_accuracy\": {:.4f}}}\n",
      options.model.empty() ? options.arch : options.model, options.density, options.epsilon,
      options.batch, options.threads, dataset->train_rows(), network.values().size(),
      Median(seconds), std::ranges::min(seconds), Median(cpu_seconds),
      int64_t{usage.ru_maxrss} * 1024, dataset->memory_bytes(), last.loss, last.accuracy);
  return 0;
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Options options;
  CLI::App app("Time of training epochs");
  app.add_option("--arch", options.arch, "Layer sizes, input first");
  app.add_option("--model", options.model, "Named model on 3 × 32 × 32 images instead of --arch")
      ->check(CLI::IsMember({"resnet8", "resnet20", "resnet18", "vgg11"}));
  app.add_option("--distribution", options.distribution, "Of the density over layers")
      ->check(CLI::IsMember({"uniform", "er", "erk"}));
  app.add_option("--density", options.density, "Density of the hidden layers, 1 = dense")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--epsilon", options.epsilon, "Weights of a hidden layer per unit that it joins")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--batch", options.batch, "Examples per step")->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads)->check(CLI::PositiveNumber);
  app.add_option("--data", options.data, "Folder of a data set; synthetic data without it");
  app.add_option("--examples", options.examples, "Size of synthetic data")
      ->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs)->check(CLI::PositiveNumber);
  app.add_option("--learning-rate", options.learning_rate);
  CLI11_PARSE(app, argc, argv);
  return espalier::Run(options);
}
