#include "common/wire/model_spec/kinds/pool.h"

namespace espalier::wire {
namespace {

class MaxPool final : public PoolDescriptor {
 public:
  MaxPool() : PoolDescriptor(v1::Layer::kMaxPool) {}

 private:
  const v1::PoolLayer& Pool(const v1::Layer& layer) const override { return layer.max_pool(); }
  v1::PoolLayer& MutablePool(v1::Layer& layer) const override { return *layer.mutable_max_pool(); }
};

}  // namespace

const LayerDescriptor& MaxPoolKind() {
  static const MaxPool kind;
  return kind;
}

}  // namespace espalier::wire
