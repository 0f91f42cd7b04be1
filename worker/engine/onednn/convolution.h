// Convolution: a product of a dense convolution by oneDNN, the same bits for every number of
// threads.
//
// Our layout has examples innermost; the library is fast in a blocked one. Conversions cost two
// passes over memory that is read and written anyway; run in our layout, the library falls back to
// loops that are hundreds of times slower.
#pragma once

#include <optional>

#include "worker/engine/backend.h"
#include "worker/engine/onednn/context.h"

namespace espalier::worker::engine::onednn {

// The library's product for some of the examples. Operands a, b, c are those of
// Backend::Convolve(); one of them is the weights, or their gradient.
class ConvolutionPart {
 public:
  // `weights`: their layout in the library, where it is given already. Errors: throws dnnl::error.
  ConvolutionPart(const ConvProblem& problem, const dnnl::engine& engine,
                  const std::optional<dnnl::memory::desc>& weights);

  // Layout of operand `index` in the library.
  const dnnl::memory::desc& inner(int index) const { return operands_[index].inner; }
  // What Execute() needs beside the operands.
  const dnnl::memory::desc& scratch() const { return scratch_; }
  // Converts operand `index` from our layout to the library's, or the other way.
  void In(int index, dnnl::stream& stream, const float* outer, float* inner) const;
  void Out(int index, dnnl::stream& stream, float* inner, float* outer) const;
  // The product of operands in the library's layout.
  void Execute(Context::Thread& thread, float* const (&operands)[3]) const;

 private:
  struct Operand {
    int argument = 0;
    dnnl::memory::desc outer;
    dnnl::memory::desc inner;
    dnnl::reorder reorder;
  };

  void Bind(int index, int argument, const dnnl::memory::desc& outer,
            const dnnl::memory::desc& inner);

  dnnl::engine engine_;
  dnnl::primitive primitive_;
  dnnl::memory::desc scratch_;
  Operand operands_[3];
};

class Convolution {
 public:
  // `context` has to live as long. Errors: throws dnnl::error.
  Convolution(const ConvProblem& problem, Context& context);
  // Errors: throws dnnl::error.
  void Run(const float* a, const float* b, float* c);

 private:
  int64_t parts() const { return (problem_.examples + examples_ - 1) / examples_; }
  const ConvolutionPart& part(int64_t index) const {
    return rest_.has_value() && index == parts() - 1 ? *rest_ : *first_;
  }
  void ReserveFor(const ConvolutionPart& part);
  void RunOnWeights(const float* weights, const float* from, float* to);
  void SumWeightGradient(const float* dy, const float* x, float* dw);
  // Adds the gradients of parts `begin` to `end`, one on each thread, to the sum of those before.
  void AddGradients(int64_t begin, int64_t end);

  ConvProblem problem_;
  Context& context_;
  int64_t examples_;  // of a part, but for the last one
  std::optional<ConvolutionPart> first_;
  std::optional<ConvolutionPart> rest_;
};

}  // namespace espalier::worker::engine::onednn
