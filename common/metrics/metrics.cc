#include "common/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/check.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/metrics/process.h"

namespace espalier::metrics {

// All series of a process, made once from the catalogue.
struct Metrics::Impl {
  using Key = std::pair<Metric, std::pair<std::string, std::string>>;
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::map<Key, prometheus::Counter*> counters;
  std::map<Key, prometheus::Gauge*> gauges;
  std::map<Key, prometheus::Histogram*> histograms;
  std::function<void(Metrics&)> look = [](Metrics&) {};
  ProcessUsage process;                // as the page before told it
  std::unique_ptr<HttpServer> server;  // last: it reads the registry

  void AddSeries(const Definition& d, const prometheus::Labels& labels, const Key& key);
  void Create(const Definition& d);
};

namespace {

template <typename Builder>
auto& Register(Builder builder, const Definition& d, prometheus::Registry& registry) {
  return builder.Name(std::string(d.name)).Help(std::string(d.help)).Register(registry);
}

std::string Fold(const std::vector<std::string_view>& values, std::string_view label) {
  const bool known = std::find(values.begin(), values.end(), label) != values.end();
  return known ? std::string(label) : "other";
}

}  // namespace

void Metrics::Impl::AddSeries(const Definition& d, const prometheus::Labels& labels,
                              const Key& key) {
  switch (d.type) {
    case Type::kCounter:
      counters[key] = &Register(prometheus::BuildCounter(), d, *registry).Add(labels);
      break;
    case Type::kGauge:
      gauges[key] = &Register(prometheus::BuildGauge(), d, *registry).Add(labels);
      break;
    case Type::kHistogram:
      histograms[key] =
          &Register(prometheus::BuildHistogram(), d, *registry).Add(labels, d.buckets);
      break;
  }
}

void Metrics::Impl::Create(const Definition& d) {
  if (d.label.empty()) {
    AddSeries(d, {}, {d.metric, {"", ""}});
    return;
  }
  for (const std::string_view value : d.values) {
    prometheus::Labels labels{{std::string(d.label), std::string(value)}};
    if (d.second_label.empty()) {
      AddSeries(d, labels, {d.metric, {std::string(value), ""}});
      continue;
    }
    for (const std::string_view second : d.second_values) {
      labels[std::string(d.second_label)] = second;
      AddSeries(d, labels, {d.metric, {std::string(value), std::string(second)}});
    }
  }
}

Metrics::Metrics(Role role) : impl_(std::make_unique<Impl>()) {
  for (const Definition& definition : Catalogue()) {
    if (definition.role == role || definition.role == Role::kBoth) impl_->Create(definition);
  }
  Set(Metric::kBuildInfo, 1, base::Version());
  Set(Metric::kProcessStart, absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
}

Metrics::~Metrics() = default;

void Metrics::Add(Metric metric, double amount, std::string_view label, std::string_view second) {
  const Definition& d = Find(metric);
  const auto it =
      impl_->counters.find({metric,
                            {d.label.empty() ? "" : Fold(d.values, label),
                             d.second_label.empty() ? "" : Fold(d.second_values, second)}});
  ESPALIER_CHECK(it != impl_->counters.end(), "unknown counter series");
  it->second->Increment(amount);
}

void Metrics::Set(Metric metric, double value, std::string_view label) {
  const Definition& d = Find(metric);
  const auto it = impl_->gauges.find({metric, {d.label.empty() ? "" : Fold(d.values, label), ""}});
  ESPALIER_CHECK(it != impl_->gauges.end(), "unknown gauge series");
  it->second->Set(value);
}

void Metrics::Observe(Metric metric, double value, std::string_view label) {
  const Definition& d = Find(metric);
  const auto it =
      impl_->histograms.find({metric, {d.label.empty() ? "" : Fold(d.values, label), ""}});
  ESPALIER_CHECK(it != impl_->histograms.end(), "unknown histogram series");
  it->second->Observe(value);
}

void Metrics::BeforePage(std::function<void(Metrics&)> look) { impl_->look = std::move(look); }

void Metrics::LookAtProcess() {
  const ProcessUsage now = UsageOfThisProcess();
  Add(Metric::kProcessCpu, std::max(0.0, now.cpu_seconds - impl_->process.cpu_seconds));
  Set(Metric::kProcessMemory, now.resident_bytes);
  Set(Metric::kProcessThreads, now.threads);
  Set(Metric::kProcessOpenFiles, now.open_files);
  Set(Metric::kProcessMaxFiles, now.max_files);
  impl_->process = now;
}

absl::StatusOr<std::string> Metrics::Serve(const std::string& listen, const HttpLimits& limits) {
  const auto page = [this] {
    LookAtProcess();
    impl_->look(*this);
    return prometheus::TextSerializer().Serialize(impl_->registry->Collect());
  };
  ESPALIER_ASSIGN_OR_RETURN(impl_->server, HttpServer::Start(listen, page, limits));
  return impl_->server->address();
}

}  // namespace espalier::metrics
