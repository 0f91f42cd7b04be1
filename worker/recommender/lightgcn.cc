#include "worker/recommender/lightgcn.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "common/base/rng.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/parallel.h"
#include "worker/engine/rows/row_arithmetic.h"
#include "worker/recommender/graph.h"
#include "worker/recommender/scoring/dot_scorer.h"

namespace espalier::worker::recommender {
namespace {

using engine::AddDifference;
using engine::AddScaled;
using engine::AlignedBuffer;
using engine::Dot;
using engine::ParallelRows;
using engine::RowRange;

// In layout order.
constexpr size_t kItemTable = 0;
constexpr size_t kUserTable = 1;

size_t TableOf(Side side) { return side == Side::kUsers ? kUserTable : kItemTable; }

// The nodes of one side that a batch names, with a row for each.
struct BatchRows {
  std::vector<int32_t> nodes;    // ascending
  std::vector<float> l2_weight;  // factor of the own embedding in its gradient
  AlignedBuffer embeddings;      // final ones
  AlignedBuffer gradients;       // with respect to the final embedding, divided by layers + 1

  // The first row whose node is not below `node`.
  int64_t LowerBound(int32_t node) const {
    return std::lower_bound(nodes.begin(), nodes.end(), node) - nodes.begin();
  }
};

class LightGcn final : public RecommenderModel {
 public:
  LightGcn(const v1::LightGcnModel& spec, const ModelParts& parts)
      : RecommenderModel(parts),
        layers_(spec.layers()),
        l2_(spec.l2()),
        dimensions_(spec.dimensions()),
        stride_(engine::WholeLanes(dimensions_)),
        graph_(*parts.train, parts.threads),
        active_users_(ActiveUsers(*parts.train)) {
    row_of_[0].resize(graph_.nodes(Side::kUsers));
    row_of_[1].resize(graph_.nodes(Side::kItems));
    if (layers_ == 0) return;
    for (const Side side : {Side::kUsers, Side::kItems}) {
      Buffer(side) = AlignedBuffer(graph_.nodes(side) * stride_);
    }
  }

  int64_t StepsPerEpoch(int64_t batch_size) const override {
    return (train().size() + batch_size - 1) / batch_size;
  }

  std::unique_ptr<Scorer> MakeScorer(const Interactions&) const override {
    DotEmbeddings embeddings;
    embeddings.stride = stride_;
    // Sums over layers stand for their means.
    const auto terms = static_cast<float>(layers_ + 1);
    embeddings.scale = 1 / (terms * terms);
    for (const Side side : {Side::kUsers, Side::kItems}) {
      AlignedBuffer& target = side == Side::kUsers ? embeddings.users : embeddings.items;
      target = AlignedBuffer(graph_.nodes(side) * stride_);
      const AlignedBuffer* inner = Inner(side);
      ExpandAll(side, target.data());
      if (inner != nullptr) graph_.AddNeighbours(side, inner->data(), stride_, target.data());
    }
    return MakeDotScorer(std::make_shared<const DotEmbeddings>(std::move(embeddings)));
  }

 protected:
  StepResult Learn(const Step& step, RowSink& sink) override {
    const std::vector<Triple> triples = DrawTriples(train(), active_users_, step);
    std::array<BatchRows, 2> rows = RowsOf(triples);
    for (const Side side : {Side::kUsers, Side::kItems}) Forward(side, Of(rows, side));
    const double loss = Loss(triples, rows);
    for (const Side side : {Side::kItems, Side::kUsers}) Backward(side, rows, sink);
    return {.loss = loss, .examples = step.batch_size};
  }

 private:
  static BatchRows& Of(std::array<BatchRows, 2>& rows, Side side) {
    return rows[side == Side::kUsers ? 0 : 1];
  }
  AlignedBuffer& Buffer(Side side) const { return buffers_[side == Side::kUsers ? 0 : 1]; }
  // The side whose embeddings are summed at a depth of the nested products for `side`.
  static Side SideAt(Side side, int depth) { return depth % 2 == 0 ? side : Other(side); }

  void ExpandAll(Side side, float* out) const {
    const RowTensor& table = tensor(TableOf(side));
    ParallelRows(threads(), graph_.nodes(side), [&](RowRange range) {
      for (int64_t n = range.begin; n < range.end; ++n) table.Expand(n, out + n * stride_);
    });
  }

  // What the outermost product for `side` is taken of: X + R·(X + …). Null without layers.
  const AlignedBuffer* Inner(Side side) const {
    if (layers_ == 0) return nullptr;
    ExpandAll(SideAt(side, layers_), Buffer(SideAt(side, layers_)).data());
    for (int depth = layers_ - 1; depth >= 1; --depth) {
      const Side at = SideAt(side, depth);
      ExpandAll(at, Buffer(at).data());
      graph_.AddNeighbours(at, Buffer(Other(at)).data(), stride_, Buffer(at).data());
    }
    return &Buffer(Other(side));
  }

  // Rows for the batch's nodes; sets row_of_.
  std::array<BatchRows, 2> RowsOf(const std::vector<Triple>& triples) {
    std::array<BatchRows, 2> rows;
    for (const Triple& triple : triples) {
      rows[0].nodes.push_back(triple.user);
      rows[1].nodes.push_back(triple.positive);
      rows[1].nodes.push_back(triple.negative);
    }
    for (size_t n = 0; n < rows.size(); ++n) {
      BatchRows& side = rows[n];
      std::ranges::sort(side.nodes);
      side.nodes.erase(std::unique(side.nodes.begin(), side.nodes.end()), side.nodes.end());
      const auto size = static_cast<int64_t>(side.nodes.size());
      for (int64_t k = 0; k < size; ++k) row_of_[n][side.nodes[k]] = static_cast<int32_t>(k);
      side.l2_weight.resize(size);
      side.embeddings = AlignedBuffer(size * stride_);
      side.gradients = AlignedBuffer(size * stride_);
    }
    return rows;
  }

  // Final embeddings of the batch's nodes.
  void Forward(Side side, BatchRows& rows) const {
    const RowTensor& table = tensor(TableOf(side));
    const AlignedBuffer* inner = Inner(side);
    float* out = rows.embeddings.data();
    for (size_t k = 0; k < rows.nodes.size(); ++k) table.Expand(rows.nodes[k], out + k * stride_);
    if (inner != nullptr) graph_.AddNeighboursOf(side, rows.nodes, inner->data(), stride_, out);
  }

  // The loss; fills gradients and l2_weight of `rows`. Embeddings are (layers + 1) times the mean.
  double Loss(const std::vector<Triple>& triples, std::array<BatchRows, 2>& rows) const {
    const auto batch = static_cast<double>(triples.size());
    const double mean = 1.0 / (layers_ + 1);
    double loss = 0;
    for (const Triple& triple : triples) {
      const int64_t user = row_of_[0][triple.user];
      const int64_t positive = row_of_[1][triple.positive];
      const int64_t negative = row_of_[1][triple.negative];
      const float* eu = rows[0].embeddings.data() + user * stride_;
      const float* ep = rows[1].embeddings.data() + positive * stride_;
      const float* en = rows[1].embeddings.data() + negative * stride_;
      const double difference =
          mean * mean * (static_cast<double>(Dot(eu, en, stride_)) - Dot(eu, ep, stride_));
      loss += std::max(difference, 0.0) + std::log1p(std::exp(-std::fabs(difference)));
      const double sigmoid = 1 / (1 + std::exp(-difference));
      // One mean of the embedding that the gradient is multiplied with, one of its own.
      const auto factor = static_cast<float>(sigmoid * mean * mean / batch);
      AddDifference(factor, en, ep, stride_, rows[0].gradients.data() + user * stride_);
      AddScaled(-factor, eu, stride_, rows[1].gradients.data() + positive * stride_);
      AddScaled(factor, eu, stride_, rows[1].gradients.data() + negative * stride_);
      const auto l2 = static_cast<float>(l2_ / batch);
      rows[0].l2_weight[user] += l2;
      rows[1].l2_weight[positive] += l2;
      rows[1].l2_weight[negative] += l2;
    }
    return loss / batch + Penalty(rows[0], Side::kUsers) + Penalty(rows[1], Side::kItems);
  }

  // What the squares of the nodes' own embeddings add to the loss.
  double Penalty(const BatchRows& rows, Side side) const {
    double penalty = 0;
    for (size_t k = 0; k < rows.nodes.size(); ++k) {
      double square = 0;
      for (const float value : tensor(TableOf(side)).Row(rows.nodes[k])) square += value * value;
      penalty += 0.5 * rows.l2_weight[k] * square;
    }
    return penalty;
  }

  void AddRows(const BatchRows& rows, RowRange range, float* out) const {
    for (int64_t k = rows.LowerBound(static_cast<int32_t>(range.begin));
         k < static_cast<int64_t>(rows.nodes.size()) && rows.nodes[k] < range.end; ++k) {
      float* to = out + (rows.nodes[k] - range.begin) * stride_;
      const float* from = rows.gradients.data() + k * stride_;
      for (int64_t d = 0; d < stride_; ++d) to[d] += from[d];
    }
  }

  // Fills the buffer of the side at `depth` with the gradients' nested products below it.
  void BackwardAt(Side side, int depth, std::array<BatchRows, 2>& rows) {
    const Side at = SideAt(side, depth);
    AlignedBuffer& buffer = Buffer(at);
    std::ranges::fill(buffer.span(), 0.0F);
    AddRows(Of(rows, at), {0, graph_.nodes(at)}, buffer.data());
    if (depth == layers_ - 1) {
      const BatchRows& innermost = Of(rows, Other(at));
      graph_.AddToNeighbours(Other(at), innermost.nodes, innermost.gradients.data(), stride_,
                             buffer.data());
    } else {
      graph_.AddNeighbours(at, Buffer(Other(at)).data(), stride_, buffer.data());
    }
  }

  // Gradient of the table of `side`, handed to `sink` in groups of rows.
  void Backward(Side side, std::array<BatchRows, 2>& rows, RowSink& sink) {
    // The outermost product runs group by group below, unless it is also the innermost.
    const int last = layers_ == 1 ? 0 : 1;
    for (int depth = layers_ - 1; depth >= last; --depth) BackwardAt(side, depth, rows);
    const int64_t groups = (graph_.nodes(side) + kRowsPerGroup - 1) / kRowsPerGroup;
    const bool all = sink.wants_all(TableOf(side));
    const auto emit = [&](RowRange range) {
      AlignedBuffer tile(kRowsPerGroup * stride_);
      std::vector<float> stored(kRowsPerGroup * dimensions_);
      for (int64_t group = range.begin; group < range.end; ++group) {
        const RowRange nodes = {group * kRowsPerGroup,
                                std::min((group + 1) * kRowsPerGroup, graph_.nodes(side))};
        GroupGradient(side, nodes, Of(rows, side), tile.data());
        Emit(side, nodes, tile.data(), all, stored.data(), sink);
      }
    };
    if (all) {
      emit({0, groups});
    } else {
      ParallelRows(threads(), groups, emit);
    }
  }

  // Gradient of the embeddings of `nodes` at all dimensions.
  void GroupGradient(Side side, RowRange nodes, const BatchRows& rows, float* tile) const {
    const int64_t count = nodes.end - nodes.begin;
    if (layers_ == 1) {
      std::copy_n(Buffer(side).data() + nodes.begin * stride_, count * stride_, tile);
    } else {
      std::fill_n(tile, count * stride_, 0.0F);
      AddRows(rows, nodes, tile);
      if (layers_ > 1) {
        graph_.AddNeighboursOf(side, nodes, Buffer(Other(side)).data(), stride_, tile);
      }
    }
    AddL2Gradient(side, nodes, rows, tile);
  }

  void AddL2Gradient(Side side, RowRange nodes, const BatchRows& rows, float* tile) const {
    if (l2_ == 0) return;
    const RowTensor& table = tensor(TableOf(side));
    std::vector<float> own(stride_);
    for (int64_t k = rows.LowerBound(static_cast<int32_t>(nodes.begin));
         k < static_cast<int64_t>(rows.nodes.size()) && rows.nodes[k] < nodes.end; ++k) {
      table.Expand(rows.nodes[k], own.data());
      float* to = tile + (rows.nodes[k] - nodes.begin) * stride_;
      for (int64_t d = 0; d < dimensions_; ++d) to[d] += rows.l2_weight[k] * own[d];
    }
  }

  void Emit(Side side, RowRange nodes, const float* tile, bool all, float* stored,
            RowSink& sink) const {
    const size_t index = TableOf(side);
    const RowTensor& table = tensor(index);
    float* next = stored;
    for (int64_t n = nodes.begin; n < nodes.end; ++n) {
      const float* row = tile + (n - nodes.begin) * stride_;
      table.Gather(n, row, next);
      next += table.begin(n + 1) - table.begin(n);
      if (all) sink.AllOf(index, n, row);
    }
    sink.StoredOf(index, nodes.begin, nodes.end - nodes.begin, stored);
  }

  int layers_;
  double l2_;
  int64_t dimensions_;
  int64_t stride_;
  Graph graph_;
  std::vector<int32_t> active_users_;
  // Of users and items: the row of each node that the current batch names; entries of others are
  // stale.
  std::array<std::vector<int32_t>, 2> row_of_;
  // [nodes][stride] of users and items; working memory that every call fills anew.
  mutable std::array<AlignedBuffer, 2> buffers_;
};

}  // namespace

std::vector<int32_t> ActiveUsers(const Interactions& train) {
  std::vector<int32_t> users;
  for (int64_t user = 0; user < train.users(); ++user) {
    if (train.CountOf(user) > 0) users.push_back(static_cast<int32_t>(user));
  }
  return users;
}

std::vector<Triple> DrawTriples(const Interactions& train, std::span<const int32_t> active_users,
                                const Step& step) {
  constexpr int kAttempts = 1000;
  std::vector<Triple> triples(step.batch_size);
  for (int64_t n = 0; n < step.batch_size; ++n) {
    base::Rng rng(base::StreamKey(step.seed, "triple",
                                  {static_cast<uint64_t>(step.index), static_cast<uint64_t>(n)}));
    Triple& triple = triples[n];
    triple.user = active_users[rng.Below(active_users.size())];
    const auto items = train.Of(triple.user);
    triple.positive = items[rng.Below(items.size())];
    // A user without other items ends this with an item of their own.
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      triple.negative = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(train.items())));
      if (!train.Contains(triple.user, triple.negative)) break;
    }
  }
  return triples;
}

std::unique_ptr<RecommenderModel> MakeLightGcn(const v1::LightGcnModel& spec,
                                               const ModelParts& parts) {
  return std::make_unique<LightGcn>(spec, parts);
}

}  // namespace espalier::worker::recommender
