#include "worker/engine/layers/residual.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<Residual>> Residual::Create(const LayerSpec& spec,
                                                           const MapShape& input,
                                                           bool input_gradient,
                                                           BuildContext& context) {
  ESPALIER_ASSIGN_OR_RETURN(Chain body, Chain::Create(spec.body, input, input_gradient, context));
  ESPALIER_ASSIGN_OR_RETURN(Chain shortcut,
                            Chain::Create(spec.shortcut, input, input_gradient, context));
  const MapShape& a = body.shape();
  const MapShape& b = shortcut.shape();
  if (body.empty() || a.channels != b.channels || a.height != b.height || a.width != b.width) {
    return SpecError("the body of a residual layer must give the shape of its shortcut");
  }
  return std::unique_ptr<Residual>(
      new Residual(spec.activation, input, std::move(body), std::move(shortcut), context));
}

Residual::Residual(Activation activation, const MapShape& input, Chain body, Chain shortcut,
                   BuildContext& context)
    : Layer(body.shape(), context),
      activation_(activation),
      input_features_(input.features()),
      body_(std::move(body)),
      shortcut_(std::move(shortcut)) {
  // They are only added.
  body_.back().PlanOutput(OutputUse::kNone);
  if (!shortcut_.empty()) shortcut_.back().PlanOutput(OutputUse::kNone);
}

OutputUse Residual::input_use() const { return std::max(body_.input_use(), shortcut_.input_use()); }

int64_t Residual::ActivationBytes() const {
  return Layer::ActivationBytes() + body_.ActivationBytes() + shortcut_.ActivationBytes();
}

template <typename Body>
void Residual::ForRows(const Body& body) const {
  ParallelRows(threads(), shape().features(), body);
}

void Residual::Forward(const Pass& pass, const float* input) {
  const int64_t width = pass.extent.width;
  body_.Forward(pass, input);
  if (!shortcut_.empty()) shortcut_.Forward(pass, input);
  const float* direct = shortcut_.empty() ? input : shortcut_.back().output();
  float* y = mutable_output();
  ForRows([&](RowRange rows) {
    CopyRows(body_.back().output(), y, stride(), width, rows);
    AddRows(direct, y, stride(), width, rows);
    BiasActivate(activation_, nullptr, y, stride(), width, rows);
  });
  body_.back().Release(pass);
  if (!shortcut_.empty()) shortcut_.back().Release(pass);
}

void Residual::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                        const BackwardTarget& target) {
  const int64_t width = pass.extent.width;
  Workspace::Lease copy(workspace());
  ForRows([&](RowRange rows) {
    ActivationBackward(activation_, no_dropout_, delta, width, rows);
    CopyRows(delta, copy.data(), stride(), width, rows);
  });
  body_.Backward(pass, input, copy.data(), input_delta, target);
  const float* direct = delta;
  if (!shortcut_.empty()) {
    // The copy is spent, and takes what the shortcut adds.
    shortcut_.Backward(pass, input, delta, input_delta == nullptr ? nullptr : copy.data(), target);
    direct = copy.data();
  }
  if (input_delta == nullptr) return;
  ParallelRows(threads(), input_features_,
               [&](RowRange rows) { AddRows(direct, input_delta, stride(), width, rows); });
}

void Residual::CollectProducts(std::vector<const ProductLayer*>& products) const {
  body_.CollectProducts(products);
  shortcut_.CollectProducts(products);
}

}  // namespace espalier::worker::engine
