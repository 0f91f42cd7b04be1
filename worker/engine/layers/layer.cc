#include "worker/engine/layers/layer.h"

#include "common/base/check.h"

namespace espalier::worker::engine {

Workspace::Lease::Lease(Workspace& workspace) : workspace_(workspace) {
  if (workspace.free_.empty()) {
    index_ = workspace.deltas_.size();
    workspace.deltas_.emplace_back(workspace.delta_floats_);
    return;
  }
  index_ = workspace.free_.back();
  workspace.free_.pop_back();
}

void Layer::PlanOutput(OutputUse use) {
  ESPALIER_CHECK(output_ == nullptr && !pruned_, "an output is planned once");
  const OutputUse own = own_use();
  if (activation_pruning_ == 0 || use == OutputUse::kExact || own == OutputUse::kExact) {
    owned_ = AlignedBuffer(shape_.features() * stride_);
    output_ = owned_.data();
    return;
  }
  kept_ = use == OutputUse::kWeightGradient;
  pruned_.emplace(PrunedOutput::Shape{shape_.features(), stride_, max_width_}, activation_pruning_,
                  /*values=*/kept_, /*signs=*/own == OutputUse::kWeightGradient, threads_);
}

float* Layer::mutable_output() {
  if (pruned_ && !lent_) output_ = lent_.emplace(workspace_).data();
  return output_;
}

void Layer::Release(const Pass& pass) {
  if (!pruned_) return;
  const bool backward = pass.mode == Mode::kTrain || pass.mode == Mode::kGradient;
  if (backward) pruned_->Keep(output_, pass.extent);
  lent_.reset();
}

const float* Layer::Restore() {
  if (!pruned_) return output_;
  if (!kept_) return nullptr;
  pruned_->Restore(mutable_output());
  return output_;
}

int64_t Layer::ActivationBytes() const {
  return pruned_ ? pruned_->bytes() : owned_.size() * static_cast<int64_t>(sizeof(float));
}

OutputUse Layer::UseOf(Activation activation, const DropoutMask& dropout) {
  if (dropout.enabled()) return OutputUse::kExact;
  if (activation == Activation::kLinear) return OutputUse::kNone;
  return activation == Activation::kRelu ? OutputUse::kWeightGradient : OutputUse::kExact;
}

void Layer::ActivationBackward(Activation activation, const DropoutMask& dropout, float* delta,
                               int64_t width, RowRange rows) const {
  if (!pruned_) {
    ActivationGradient(activation, dropout, output_, delta, stride_, width, rows);
  } else if (activation == Activation::kRelu) {
    pruned_->MaskByPositive(delta, rows);
  }
}

}  // namespace espalier::worker::engine
