#include "worker/tasks/recommender/recommender_rows.h"

#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/recommender_layout.h"

namespace espalier::worker::tasks {

absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> UserLayout(const v1::Task& task,
                                                                      int64_t users) {
  ESPALIER_ASSIGN_OR_RETURN(const auto tensors,
                            wire::UserTensors(task.model().spec().recommender(), users));
  auto layout = std::make_shared<tensor::ModelLayout>();
  for (const wire::ModelTensor& tensor : tensors) layout->push_back(tensor.spec);
  return std::shared_ptr<const tensor::ModelLayout>(std::move(layout));
}

absl::StatusOr<tensor::ModelState> Join(const tensor::ModelState& shared,
                                        const tensor::ModelState& rows) {
  auto layout = std::make_shared<tensor::ModelLayout>(shared.topology->layout());
  const tensor::ModelLayout& more = rows.topology->layout();
  layout->insert(layout->end(), more.begin(), more.end());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (const tensor::ModelState* half : {&shared, &rows}) {
    for (size_t i = 0; i < half->topology->num_tensors(); ++i) {
      topologies.push_back(half->topology->shared_topology(i));
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology topology,
      tensor::ModelTopology::Create(std::move(layout), std::move(topologies)));
  tensor::ModelState whole;
  whole.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  const auto join = [](const auto& a, int64_t a_begin, int64_t a_size, const auto& b,
                       int64_t b_begin, int64_t b_size, std::vector<float>& out) {
    out.insert(out.end(), a.begin() + a_begin, a.begin() + a_begin + a_size);
    out.insert(out.end(), b.begin() + b_begin, b.begin() + b_begin + b_size);
  };
  const int64_t a = shared.topology->total_stored();
  const int64_t b = rows.topology->total_stored();
  join(shared.values, 0, a, rows.values, 0, b, whole.values);
  const int64_t sets = a == 0 ? 0 : static_cast<int64_t>(shared.optimizer_state.size()) / a;
  if (static_cast<int64_t>(rows.optimizer_state.size()) != sets * b) return whole;
  for (int64_t set = 0; set < sets; ++set) {
    join(shared.optimizer_state, set * a, a, rows.optimizer_state, set * b, b,
         whole.optimizer_state);
  }
  return whole;
}

absl::StatusOr<tensor::ModelState> RowsOfUsers(const tensor::ModelState& whole, size_t first) {
  const tensor::ModelTopology& topology = *whole.topology;
  const auto begin = static_cast<int64_t>(first);
  auto layout = std::make_shared<tensor::ModelLayout>(topology.layout().begin() + begin,
                                                      topology.layout().end());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (size_t i = first; i < topology.num_tensors(); ++i) {
    topologies.push_back(topology.shared_topology(i));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology part,
      tensor::ModelTopology::Create(std::move(layout), std::move(topologies)));
  tensor::ModelState rows;
  rows.topology = std::make_shared<const tensor::ModelTopology>(std::move(part));
  const int64_t total = topology.total_stored();
  const int64_t count = rows.topology->total_stored();
  rows.values.assign(whole.values.end() - count, whole.values.end());
  for (int64_t end = total; end <= static_cast<int64_t>(whole.optimizer_state.size());
       end += total) {
    rows.optimizer_state.insert(rows.optimizer_state.end(),
                                whole.optimizer_state.begin() + end - count,
                                whole.optimizer_state.begin() + end);
  }
  return rows;
}

}  // namespace espalier::worker::tasks
