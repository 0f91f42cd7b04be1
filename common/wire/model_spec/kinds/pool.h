// What the kinds with a PoolLayer share; each says where in v1::Layer it is.
#pragma once

#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/windows.h"
#include "fmt/format.h"

namespace espalier::wire {

class PoolDescriptor : public LayerDescriptor {
 public:
  using LayerDescriptor::LayerDescriptor;

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer,
                                           const FeatureShape& input) const final {
    return Slide(WindowOf(Pool(layer)), input.channels, input);
  }

  ChannelFlow channel_flow() const final { return ChannelFlow::kKept; }

  void ApplyDefaults(v1::Layer& layer) const final {
    v1::PoolLayer& pool = MutablePool(layer);
    const Window window = WindowOf(pool);
    pool.set_kernel(static_cast<int32_t>(window.kernel));
    pool.set_stride(static_cast<int32_t>(window.stride));
  }

  bool CheckRanges(const v1::Layer& layer, const LayerPlace& /*place*/,
                   const RangeReport& in) const final {
    const v1::PoolLayer& pool = Pool(layer);
    const bool kernel = Check("kernel", pool.kernel(), in);
    return Check("stride", pool.stride(), in) && kernel;
  }

  void Describe(const v1::Layer& layer, tensor::LayerSpec& spec) const final {
    DescribeWindow(WindowOf(Pool(layer)), spec);
  }

 private:
  virtual const v1::PoolLayer& Pool(const v1::Layer& layer) const = 0;
  virtual v1::PoolLayer& MutablePool(v1::Layer& layer) const = 0;

  static Window WindowOf(const v1::PoolLayer& pool) {
    constexpr int64_t kDefaultKernel = 2;
    const int64_t kernel = pool.kernel() == 0 ? kDefaultKernel : pool.kernel();
    return {.kernel = kernel, .stride = pool.stride() == 0 ? kernel : pool.stride()};
  }

  static bool Check(const char* field, int32_t value, const RangeReport& in) {
    constexpr int32_t kMax = 1000;
    const bool ok = value >= 0 && value <= kMax;
    in.Check(ok, field, fmt::format("must be 1..{}, found {}", kMax, value));
    return ok;
  }
};

}  // namespace espalier::wire
