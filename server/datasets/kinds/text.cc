// Texts.
#include <algorithm>
#include <string>
#include <utility>

#include "server/datasets/kinds/kinds.h"

namespace espalier::server::datasets {
namespace {

class Text : public DataKind {
 public:
  std::vector<config::Violation> Misfits(const v1::JobSpec&,
                                         const v1::DatasetInfo& info) const override {
    if (auto other = OnlyInteractions(info)) return {*std::move(other)};
    if (info.format() == "text") return {};
    return {{"data.text", "data set '" + info.name() + "' is not text but " + info.format() +
                              "; remove data.text, or choose a folder with train.txt"}};
  }
  void FillIn(const v1::DatasetInfo&, v1::JobSpec&,
              std::vector<config::Violation>&) const override {}
  int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task,
                       const v1::DatasetInfo& info) const override;
};

// Tokens have at least one byte each; a task counts tokens, of overlapping examples several times,
// and a begin-of-sequence token before each document, which has at least one byte.
int64_t Text::MostExamples(const v1::JobSpec& spec, const v1::Task& task,
                           const v1::DatasetInfo& info) const {
  const v1::TextData& text = spec.data().text();
  const int64_t bytes =
      task.has_evaluate() ? info.train_bytes() + info.test_bytes() : info.train_bytes();
  if (bytes == 0) return 0;
  const int64_t context = std::max<int64_t>(1, text.context());
  const int64_t stride = std::max<int64_t>(1, text.stride() > 0 ? text.stride() : context);
  constexpr int64_t kMostBytes = int64_t{1} << 53;
  const int64_t tokens = 2 * std::min(bytes, kMostBytes / 4) + 2;
  return (tokens / stride + 1) * context;
}

}  // namespace

const DataKind& TextData() {
  static const Text kind;
  return kind;
}

}  // namespace espalier::server::datasets
