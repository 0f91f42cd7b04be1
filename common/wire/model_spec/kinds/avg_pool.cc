#include "common/wire/model_spec/kinds/pool.h"

namespace espalier::wire {
namespace {

class AvgPool final : public PoolDescriptor {
 public:
  AvgPool() : PoolDescriptor(v1::Layer::kAvgPool) {}

 private:
  const v1::PoolLayer& Pool(const v1::Layer& layer) const override { return layer.avg_pool(); }
  v1::PoolLayer& MutablePool(v1::Layer& layer) const override { return *layer.mutable_avg_pool(); }
};

}  // namespace

const LayerDescriptor& AvgPoolKind() {
  static const AvgPool kind;
  return kind;
}

}  // namespace espalier::wire
