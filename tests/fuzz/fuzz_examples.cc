// Examples of a prediction, as a client sends them: values, cells or images. What is encoded is
// finite and has as many features as the model has inputs.
#include <cmath>
#include <cstdint>
#include <string>

#include "espalier/v1/predict.pb.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"
#include "worker/data/prediction/prediction.h"

namespace {

namespace v1 = espalier::v1;

// Of a job on a table of three columns, one of which has words.
v1::DataSpec TableSpec(bool named) {
  v1::DataSpec spec;
  spec.set_dataset("set");
  spec.set_words(v1::DataSpec::WORDS_ONE_HOT);
  spec.set_missing(v1::DataSpec::MISSING_MEAN);
  v1::Agreement& agreement = *spec.mutable_agreement();
  for (const char* name : {"a", "b", "c"}) {
    auto& column = *agreement.add_columns();
    if (named) column.set_name(name);
    column.set_mean(0.5);
  }
  agreement.mutable_columns(1)->add_words("cat");
  agreement.mutable_columns(1)->add_words("dog");
  if (named) agreement.set_label_column("y");
  return spec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using espalier::fuzz::Require;
  espalier::fuzz::Input input(bytes, size);
  const int kind = input.Choice(4);
  v1::DataSpec spec = kind < 2 ? TableSpec(kind == 1) : v1::DataSpec();
  if (kind == 3) {
    spec.mutable_image_size()->set_height(3);
    spec.mutable_image_size()->set_width(2);
    spec.mutable_image_size()->set_channels(1);
  }
  const int64_t features = kind < 2 ? 4 : kind == 2 ? 3 : 6;
  v1::Examples examples;
  if (!espalier::fuzz::Parse(input.Rest(), examples)) return 0;
  const auto set = espalier::worker::data::EncodeExamples(examples, spec, features,
                                                          {.max_memory_bytes = 1 << 22});
  if (!set.ok()) return 0;
  Require(set->features() == features, "an example has as many features as the model has inputs");
  Require(set->size() == examples.examples_size(), "each example is encoded");
  for (int64_t row = 0; row < set->size() && !set->is_bytes(); ++row) {
    for (int64_t i = 0; i < features; ++i) {
      Require(std::isfinite(set->FloatRow(row)[i]), "values are finite");
    }
  }
  return 0;
}
