// Results of predictions as CSV, JSON or npy; docs/predict.md describes all three.
//
// Numbers:   the shortest decimal that is the same float32.
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace espalier::worker::predict {

// What was predicted.
struct Predictions {
  // Names of the outputs; of a language model none, its outputs are tokens.
  std::vector<std::string> outputs;
  int64_t width = 0;          // outputs of an example
  std::vector<float> values;  // example by example
  // What names an example, such as the file of an image; a column each. May be empty.
  std::vector<std::string> key_names;
  std::vector<std::vector<std::string>> keys;  // by example, as many as key_names
  // Whether the largest output is the answer: of a classifier or a language model.
  bool has_best = true;
  // Language models: the texts of tokens; otherwise empty.
  std::vector<std::string> texts;

  int64_t examples() const { return width == 0 ? 0 : static_cast<int64_t>(values.size()) / width; }
  std::string NameOf(int64_t output) const;
};

// The places of the `count` largest of `values`, largest first, equal ones by place.
std::vector<int64_t> LargestOf(std::span<const float> values, int64_t count);

// All outputs in columns; with top > 0 a line for each of the largest.
std::string AsCsv(const Predictions& predictions, int64_t top);
std::string AsJson(const Predictions& predictions, int64_t top);
// An array of float32, examples × outputs.
std::string AsNpy(const Predictions& predictions);

}  // namespace espalier::worker::predict
