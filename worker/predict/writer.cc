#include "worker/predict/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/base/printable.h"

namespace espalier::worker::predict {
namespace {

using Json = nlohmann::ordered_json;

// After RFC 4180.
std::string Cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string Number(float value) { return fmt::format("{}", value); }

// The number as JSON prints a double: the shortest decimal of the float.
double AsDouble(float value) { return std::strtod(Number(value).c_str(), nullptr); }

void AddLine(const std::vector<std::string>& cells, std::string& csv) {
  for (size_t i = 0; i < cells.size(); ++i) csv += (i == 0 ? "" : ",") + Cell(cells[i]);
  csv += '\n';
}

std::span<const float> Of(const Predictions& predictions, int64_t example) {
  return std::span(predictions.values)
      .subspan(static_cast<size_t>(example * predictions.width),
               static_cast<size_t>(predictions.width));
}

const std::vector<std::string>& KeysOf(const Predictions& predictions, int64_t example) {
  static const std::vector<std::string> kNone;
  return predictions.keys.empty() ? kNone : predictions.keys[static_cast<size_t>(example)];
}

// What a token is as text; bytes that are no text appear escaped.
std::string TextOf(const Predictions& predictions, int64_t token) {
  return predictions.texts.empty()
             ? ""
             : base::Printable(predictions.texts[static_cast<size_t>(token)], {.keep = "\n\t"});
}

std::string RankedCsv(const Predictions& predictions, int64_t top) {
  std::vector<std::string> cells = predictions.key_names;
  if (cells.empty()) cells = {"example"};
  const bool tokens = !predictions.texts.empty();
  for (const char* name : {"rank", tokens ? "token" : "prediction"}) cells.emplace_back(name);
  if (tokens) cells.emplace_back("text");
  cells.emplace_back("probability");
  std::string csv;
  AddLine(cells, csv);
  for (int64_t i = 0; i < predictions.examples(); ++i) {
    int64_t rank = 0;
    for (const int64_t place : LargestOf(Of(predictions, i), top)) {
      cells = KeysOf(predictions, i);
      if (cells.empty()) cells = {std::to_string(i + 1)};
      cells.push_back(std::to_string(++rank));
      cells.push_back(predictions.NameOf(place));
      if (tokens) cells.push_back(TextOf(predictions, place));
      cells.push_back(Number(Of(predictions, i)[static_cast<size_t>(place)]));
      AddLine(cells, csv);
    }
  }
  return csv;
}

}  // namespace

std::string Predictions::NameOf(int64_t output) const {
  return output < static_cast<int64_t>(outputs.size()) ? outputs[static_cast<size_t>(output)]
                                                       : std::to_string(output);
}

std::vector<int64_t> LargestOf(std::span<const float> values, int64_t count) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  count = std::min<int64_t>(count, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int64_t a, int64_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

std::string AsCsv(const Predictions& predictions, int64_t top) {
  if (top > 0) return RankedCsv(predictions, top);
  std::vector<std::string> cells = predictions.key_names;
  if (predictions.has_best) cells.emplace_back("prediction");
  for (int64_t i = 0; i < predictions.width; ++i) cells.push_back(predictions.NameOf(i));
  std::string csv;
  AddLine(cells, csv);
  for (int64_t i = 0; i < predictions.examples(); ++i) {
    const std::span<const float> values = Of(predictions, i);
    cells = KeysOf(predictions, i);
    if (predictions.has_best) cells.push_back(predictions.NameOf(LargestOf(values, 1)[0]));
    for (const float value : values) cells.push_back(Number(value));
    AddLine(cells, csv);
  }
  return csv;
}

std::string AsJson(const Predictions& predictions, int64_t top) {
  Json all = Json::array();
  for (int64_t i = 0; i < predictions.examples(); ++i) {
    const std::span<const float> values = Of(predictions, i);
    Json one = Json::object();
    for (size_t k = 0; k < predictions.key_names.size(); ++k) {
      one[predictions.key_names[k]] = predictions.keys[static_cast<size_t>(i)][k];
    }
    const int64_t best = LargestOf(values, 1)[0];
    if (predictions.has_best) one["best"] = predictions.NameOf(best);
    if (predictions.has_best && !predictions.texts.empty()) one["text"] = TextOf(predictions, best);
    if (top > 0) {
      one["places"] = LargestOf(values, top);
      for (const int64_t place : LargestOf(values, top)) {
        one["values"].push_back(AsDouble(values[static_cast<size_t>(place)]));
      }
    } else {
      for (const float value : values) one["values"].push_back(AsDouble(value));
    }
    all.push_back(std::move(one));
  }
  Json whole = Json::object();
  if (!predictions.outputs.empty()) whole["outputs"] = predictions.outputs;
  whole["predictions"] = std::move(all);
  return whole.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string AsNpy(const Predictions& predictions) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                  predictions.examples(), predictions.width);
  // Version 1: everything before the data is a multiple of 64 bytes.
  constexpr size_t kPrefix = 10;
  constexpr size_t kAlignment = 64;
  header.append(kAlignment - (kPrefix + header.size() + 1) % kAlignment, ' ');
  header += '\n';
  std::string npy("\x93NUMPY\x01\x00", 8);
  npy += static_cast<char>(header.size() & 0xFF);
  npy += static_cast<char>(header.size() >> 8);
  npy += header;
  const size_t begin = npy.size();
  npy.resize(begin + predictions.values.size() * sizeof(float));
  std::memcpy(npy.data() + begin, predictions.values.data(),
              predictions.values.size() * sizeof(float));
  return npy;
}

}  // namespace espalier::worker::predict
