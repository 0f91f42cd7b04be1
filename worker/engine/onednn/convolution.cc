#include "worker/engine/onednn/convolution.h"

#include <algorithm>
#include <cstring>

namespace espalier::worker::engine::onednn {
namespace {

using dnnl::memory;
using Pass = ConvProblem::Pass;

constexpr int64_t kParts = 8;
constexpr int64_t kFewestExamples = 8;
// Output positions of a part, times its examples: a gradient is added to the sum of the others in a
// tenth of the time that it takes to compute it.
constexpr int64_t kFewestPositions = 512;

// Examples of a part.
int64_t ExamplesOf(const ConvProblem& p) {
  const int64_t positions = p.shape.out_height() * p.shape.out_width();
  return std::min(p.examples, std::max({(p.examples + kParts - 1) / kParts, kFewestExamples,
                                        (kFewestPositions + positions - 1) / positions}));
}

ConvProblem WithExamples(ConvProblem problem, int64_t examples) {
  problem.examples = examples;
  return problem;
}

}  // namespace

ConvolutionPart::ConvolutionPart(const ConvProblem& p, const dnnl::engine& engine,
                                 const std::optional<memory::desc>& weights)
    : engine_(engine) {
  const ConvShape& s = p.shape;
  const auto map_desc = [&](int64_t channels, int64_t height, int64_t width) {
    const memory::dims dims = {p.examples, channels, height, width};
    const memory::dims strides = {1, height * width * p.stride, width * p.stride, p.stride};
    return memory::desc(dims, memory::data_type::f32, strides);
  };
  const memory::desc x = map_desc(s.in_channels, s.in_height, s.in_width);
  const memory::desc y = map_desc(s.out_channels, s.out_height(), s.out_width());
  const memory::desc w({s.out_channels, s.in_channels, s.kernel, s.kernel}, memory::data_type::f32,
                       memory::format_tag::oihw);
  const auto any = [](const memory::desc& desc) {
    return memory::desc(desc.get_dims(), memory::data_type::f32, memory::format_tag::any);
  };
  const memory::desc inner_w = weights.value_or(any(w));
  const memory::dims strides = {s.stride, s.stride};
  // Rows below and right of the last window are not read: the padding there may be negative.
  const memory::dims before = {s.padding, s.padding};
  const memory::dims after = {(s.out_height() - 1) * s.stride + s.kernel - s.in_height - s.padding,
                              (s.out_width() - 1) * s.stride + s.kernel - s.in_width - s.padding};
  const auto algorithm = dnnl::algorithm::convolution_direct;
  // Of a gradient it is only a hint.
  const dnnl::convolution_forward::primitive_desc forward(
      engine, dnnl::prop_kind::forward_training, algorithm, any(x),
      p.pass == Pass::kForward ? inner_w : any(w), any(y), strides, before, after, OwnScratch());
  if (p.pass == Pass::kForward) {
    primitive_ = dnnl::convolution_forward(forward);
    scratch_ = forward.scratchpad_desc();
    Bind(0, DNNL_ARG_WEIGHTS, w, forward.weights_desc());
    Bind(1, DNNL_ARG_SRC, x, forward.src_desc());
    Bind(2, DNNL_ARG_DST, y, forward.dst_desc());
  } else if (p.pass == Pass::kInputGradient) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        engine, algorithm, any(x), inner_w, any(y), strides, before, after, forward, OwnScratch());
    primitive_ = dnnl::convolution_backward_data(backward);
    scratch_ = backward.scratchpad_desc();
    Bind(0, DNNL_ARG_WEIGHTS, w, backward.weights_desc());
    Bind(1, DNNL_ARG_DIFF_DST, y, backward.diff_dst_desc());
    Bind(2, DNNL_ARG_DIFF_SRC, x, backward.diff_src_desc());
  } else {
    const dnnl::convolution_backward_weights::primitive_desc backward(
        engine, algorithm, any(x), inner_w, any(y), strides, before, after, forward, OwnScratch());
    primitive_ = dnnl::convolution_backward_weights(backward);
    scratch_ = backward.scratchpad_desc();
    Bind(0, DNNL_ARG_DIFF_DST, y, backward.diff_dst_desc());
    Bind(1, DNNL_ARG_SRC, x, backward.src_desc());
    Bind(2, DNNL_ARG_DIFF_WEIGHTS, w, backward.diff_weights_desc());
  }
}

void ConvolutionPart::Bind(int index, int argument, const memory::desc& outer,
                           const memory::desc& inner) {
  const dnnl::reorder::primitive_desc conversion(engine_, index < 2 ? outer : inner, engine_,
                                                 index < 2 ? inner : outer, OwnScratch());
  operands_[index] = {argument, outer, inner, dnnl::reorder(conversion)};
}

void ConvolutionPart::In(int index, dnnl::stream& stream, const float* outer, float* inner) const {
  memory from(operands_[index].outer, engine_, InputHandle(outer));
  memory to(operands_[index].inner, engine_, inner);
  operands_[index].reorder.execute(stream, from, to);
}

void ConvolutionPart::Out(int index, dnnl::stream& stream, float* inner, float* outer) const {
  memory from(operands_[index].inner, engine_, inner);
  memory to(operands_[index].outer, engine_, outer);
  operands_[index].reorder.execute(stream, from, to);
}

void ConvolutionPart::Execute(Context::Thread& thread, float* const (&operands)[3]) const {
  const auto bound = [&](int index) {
    return memory(operands_[index].inner, engine_, operands[index]);
  };
  primitive_.execute(thread.stream,
                     {{operands_[0].argument, bound(0)},
                      {operands_[1].argument, bound(1)},
                      {operands_[2].argument, bound(2)},
                      {DNNL_ARG_SCRATCHPAD, memory(scratch_, engine_, thread.scratch.data())}});
}

Convolution::Convolution(const ConvProblem& problem, Context& context)
    : problem_(problem), context_(context), examples_(ExamplesOf(problem)) {
  const ThreadScope scope(1);
  first_.emplace(WithExamples(problem, examples_), context.engine, std::nullopt);
  const int64_t left = problem.examples % examples_;
  const int weights = problem.pass == Pass::kWeightGradient ? 2 : 0;
  if (left > 0) rest_.emplace(WithExamples(problem, left), context.engine, first_->inner(weights));
  Reserve(context.weights, Floats(first_->inner(weights)));
  ReserveFor(*first_);
  if (rest_.has_value()) ReserveFor(*rest_);
}

void Convolution::ReserveFor(const ConvolutionPart& part) {
  context_.ReserveScratch(parts(), part.scratch());
  // Weights that all parts read are in the context.
  for (int i = problem_.pass == Pass::kWeightGradient ? 0 : 1; i < 3; ++i) {
    context_.ReserveOperand(parts(), i, part.inner(i));
  }
}

void Convolution::Run(const float* a, const float* b, float* c) {
  if (problem_.pass == Pass::kWeightGradient) {
    SumWeightGradient(a, b, c);
  } else {
    RunOnWeights(a, b, c);
  }
}

void Convolution::RunOnWeights(const float* weights, const float* from, float* to) {
  {
    // A conversion adds nothing: its bits do not depend on threads.
    const ThreadScope scope(context_.threads());
    first_->In(0, context_.stream, weights, context_.weights.data());
    context_.stream.wait();
  }
  context_.ForParts(parts(), [&](int64_t index, Context::Thread& thread) {
    const ConvolutionPart& own = part(index);
    float* const operands[3] = {context_.weights.data(), thread.operands[1].data(),
                                thread.operands[2].data()};
    own.In(1, thread.stream, from + index * examples_, operands[1]);
    own.Execute(thread, operands);
    own.Out(2, thread.stream, operands[2], to + index * examples_);
    thread.stream.wait();
  });
}

void Convolution::SumWeightGradient(const float* dy, const float* x, float* dw) {
  for (int64_t begin = 0; begin < parts(); begin += context_.threads()) {
    const int64_t end = std::min<int64_t>(parts(), begin + context_.threads());
    context_.ForParts(end - begin, [&](int64_t index, Context::Thread& thread) {
      const ConvolutionPart& own = part(begin + index);
      float* const operands[3] = {thread.operands[0].data(), thread.operands[1].data(),
                                  thread.operands[2].data()};
      own.In(0, thread.stream, dy + (begin + index) * examples_, operands[0]);
      own.In(1, thread.stream, x + (begin + index) * examples_, operands[1]);
      own.Execute(thread, operands);
      thread.stream.wait();
    });
    AddGradients(begin, end);
  }
  const ThreadScope scope(context_.threads());
  first_->Out(2, context_.stream, context_.weights.data(), dw);
  context_.stream.wait();
}

void Convolution::AddGradients(int64_t begin, int64_t end) {
  float* const sum = context_.weights.data();
  ParallelRows(context_.threads(), Floats(first_->inner(2)), [&](RowRange range) {
    for (int64_t part = begin; part < end; ++part) {
      const float* gradient = context_.thread[part - begin].operands[2].data();
      if (part == 0) {
        std::memcpy(sum + range.begin, gradient + range.begin,
                    sizeof(float) * (range.end - range.begin));
        continue;
      }
      for (int64_t i = range.begin; i < range.end; ++i) sum[i] += gradient[i];
    }
  });
}

}  // namespace espalier::worker::engine::onednn
