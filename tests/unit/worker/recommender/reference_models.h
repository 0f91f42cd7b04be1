// The losses of all recommenders in double and in the plainest form, from dense tensors.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "worker/recommender/epoch_order.h"
#include "worker/recommender/lightgcn.h"
#include "worker/recommender/multvae.h"
#include "worker/recommender/pairs.h"

namespace espalier::worker::recommender {

using Tensors = std::vector<std::vector<double>>;

inline double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// Embeddings of users, then items: the mean of layers 0..L of the dense product with Â.
inline std::vector<std::vector<double>> ReferenceEmbeddings(const v1::LightGcnModel& spec,
                                                            const Interactions& train,
                                                            const Tensors& tensors) {
  const int64_t users = train.users();
  const int64_t dimensions = spec.dimensions();
  std::vector<std::vector<double>> layer(users + train.items());
  std::vector<double> degree(layer.size());
  for (size_t n = 0; n < layer.size(); ++n) {
    const auto node = static_cast<int64_t>(n);
    const bool user = node < users;
    const double* row = tensors[user ? 1 : 0].data() + (user ? node : node - users) * dimensions;
    layer[n].assign(row, row + dimensions);
  }
  for (int64_t u = 0; u < users; ++u) {
    for (const int32_t i : train.Of(u)) {
      ++degree[u];
      ++degree[users + i];
    }
  }
  std::vector<std::vector<double>> sum = layer;
  for (int l = 0; l < spec.layers(); ++l) {
    std::vector<std::vector<double>> next(layer.size(), std::vector<double>(dimensions));
    for (int64_t u = 0; u < users; ++u) {
      for (const int32_t i : train.Of(u)) {
        const double entry = 1 / std::sqrt(degree[u] * degree[users + i]);
        for (int64_t d = 0; d < dimensions; ++d) {
          next[u][d] += entry * layer[users + i][d];
          next[users + i][d] += entry * layer[u][d];
        }
      }
    }
    layer = next;
    for (size_t n = 0; n < sum.size(); ++n) {
      for (int64_t d = 0; d < dimensions; ++d) sum[n][d] += layer[n][d];
    }
  }
  for (auto& row : sum) {
    for (double& value : row) value /= spec.layers() + 1;
  }
  return sum;
}

inline double LightGcnLoss(const v1::LightGcnModel& spec, const Interactions& train,
                           const Step& step, const Tensors& tensors) {
  const auto final = ReferenceEmbeddings(spec, train, tensors);
  const int64_t dimensions = spec.dimensions();
  const auto dot = [&](int32_t user, int32_t item) {
    double sum = 0;
    for (int64_t d = 0; d < dimensions; ++d) {
      sum += final[user][d] * final[train.users() + item][d];
    }
    return sum;
  };
  const auto square = [&](size_t tensor, int32_t row) {
    double sum = 0;
    for (int64_t d = 0; d < dimensions; ++d) {
      const double value = tensors[tensor][row * dimensions + d];
      sum += value * value;
    }
    return sum;
  };
  double loss = 0;
  for (const Triple& t : DrawTriples(train, ActiveUsers(train), step)) {
    loss += Softplus(dot(t.user, t.negative) - dot(t.user, t.positive));
    loss += spec.l2() / 2 * (square(1, t.user) + square(0, t.positive) + square(0, t.negative));
  }
  return loss / static_cast<double>(step.batch_size);
}

// y = W x + b of tensors[weight] and the bias after it.
inline std::vector<double> Affine(const Tensors& tensors, size_t weight,
                                  const std::vector<double>& x) {
  std::vector<double> y = tensors[weight + 1];
  for (size_t o = 0; o < y.size(); ++o) {
    for (size_t i = 0; i < x.size(); ++i) y[o] += tensors[weight][o * x.size() + i] * x[i];
  }
  return y;
}

// Without dropout.
inline double NeuMfScore(const v1::NeuMfModel& spec, const Tensors& tensors, int64_t user,
                         int64_t item) {
  const int64_t dimensions = spec.dimensions();
  const size_t prediction = 2 + 2 * static_cast<size_t>(spec.hidden_size());
  std::vector<double> hidden;
  for (int64_t d = 0; d < dimensions; ++d) {
    hidden.push_back(tensors[prediction + 3][user * dimensions + d]);
  }
  for (int64_t d = 0; d < dimensions; ++d) hidden.push_back(tensors[1][item * dimensions + d]);
  for (int l = 0; l < spec.hidden_size(); ++l) {
    hidden = Affine(tensors, 2 + 2 * static_cast<size_t>(l), hidden);
    for (double& h : hidden) h = std::max(h, 0.0);
  }
  std::vector<double> features;
  for (int64_t d = 0; d < dimensions; ++d) {
    features.push_back(tensors[prediction + 2][user * dimensions + d] *
                       tensors[0][item * dimensions + d]);
  }
  features.insert(features.end(), hidden.begin(), hidden.end());
  return Affine(tensors, prediction, features)[0];
}

// Mean over positives and mean over negatives of what `score` gives for a user and an item.
inline double ReferencePairLoss(const Interactions& train, int32_t negatives, const Step& step,
                                const std::function<double(int32_t, int32_t)>& score) {
  EpochOrder order(train.size());
  const Pairs pairs = DrawPairs(train, order.Of(step), negatives, step);
  double of_positives = 0;
  double of_negatives = 0;
  for (size_t m = 0; m < pairs.users.size(); ++m) {
    const double value = score(pairs.users[m], pairs.items[m]);
    if (static_cast<int64_t>(m) < pairs.positives) {
      of_positives += Softplus(-value);
    } else {
      of_negatives += Softplus(value);
    }
  }
  const auto count = static_cast<double>(pairs.positives);
  return of_positives / count + of_negatives / (count * negatives);
}

inline double NeuMfLoss(const v1::NeuMfModel& spec, const Interactions& train, const Step& step,
                        const Tensors& tensors) {
  return ReferencePairLoss(train, spec.negatives(), step, [&](int32_t user, int32_t item) {
    return NeuMfScore(spec, tensors, user, item);
  });
}

// What is known about users and items, for each field of a spec.
using Fields = std::vector<std::shared_ptr<const Interactions>>;

// Without dropout.
inline double AutoIntScore(const v1::AutoIntModel& spec, const Fields& fields,
                           const Tensors& tensors, int32_t user, int32_t item) {
  const int64_t dimensions = spec.dimensions();
  const size_t first_layer = 1 + fields.size();
  const size_t output = first_layer + static_cast<size_t>(spec.layers());
  std::vector<std::vector<double>> e;
  const auto add = [&](size_t table, std::span<const int32_t> rows) {
    std::vector<double> mean(dimensions);
    for (const int32_t row : rows) {
      for (int64_t d = 0; d < dimensions; ++d) {
        mean[d] += tensors[table][row * dimensions + d] / static_cast<double>(rows.size());
      }
    }
    e.push_back(mean);
  };
  add(0, std::span(&item, 1));
  for (size_t f = 0; f < fields.size(); ++f) {
    add(1 + f, fields[f]->Of(spec.fields(static_cast<int>(f)).of_items() ? item : user));
  }
  add(output + 2, std::span(&user, 1));
  const int64_t units = spec.units();
  const int64_t of_head = units / spec.heads();
  for (int l = 0; l < spec.layers(); ++l) {
    const std::vector<double>& weight = tensors[first_layer + static_cast<size_t>(l)];
    const auto project = [&](int64_t part, int64_t unit, const std::vector<double>& x) {
      double sum = 0;
      for (size_t i = 0; i < x.size(); ++i)
        sum += weight[(part * units + unit) * x.size() + i] * x[i];
      return sum;
    };
    std::vector<std::vector<double>> next(e.size(), std::vector<double>(units));
    for (size_t m = 0; m < e.size(); ++m) {
      for (int64_t head = 0; head < spec.heads(); ++head) {
        std::vector<double> alpha;
        double total = 0;
        for (const auto& other : e) {
          double score = 0;
          for (int64_t unit = head * of_head; unit < (head + 1) * of_head; ++unit) {
            score += project(0, unit, e[m]) * project(1, unit, other);
          }
          alpha.push_back(std::exp(score));
          total += alpha.back();
        }
        for (int64_t unit = head * of_head; unit < (head + 1) * of_head; ++unit) {
          double sum = project(3, unit, e[m]);
          for (size_t k = 0; k < e.size(); ++k) sum += alpha[k] / total * project(2, unit, e[k]);
          next[m][unit] = std::max(sum, 0.0);
        }
      }
    }
    e = next;
  }
  std::vector<double> all;
  for (const auto& field : e) all.insert(all.end(), field.begin(), field.end());
  return Affine(tensors, output, all)[0];
}

// Scores of all items from a user's inputs and noise (none: the mean of the latent variables);
// `divergence` is increased by the user's.
inline std::vector<double> VaeScores(const v1::MultVaeModel& spec, const Tensors& tensors,
                                     std::span<const int32_t> items,
                                     const std::vector<float>& inputs,
                                     const std::vector<float>& noise, double& divergence) {
  std::vector<double> hidden = tensors[1];
  for (size_t k = 0; k < items.size(); ++k) {
    for (size_t h = 0; h < hidden.size(); ++h) {
      hidden[h] += static_cast<double>(inputs[k]) * tensors[0][items[k] * hidden.size() + h];
    }
  }
  for (double& h : hidden) h = std::tanh(h);
  const std::vector<double> latent = Affine(tensors, 2, hidden);
  std::vector<double> z;
  for (int64_t l = 0; l < spec.latent(); ++l) {
    const double mean = latent[l];
    const double log_variance = latent[spec.latent() + l];
    z.push_back(mean + (noise.empty() ? 0 : std::exp(0.5 * log_variance) * noise[l]));
    divergence -= 0.5 * (1 + log_variance - mean * mean - std::exp(log_variance));
  }
  hidden = Affine(tensors, 4, z);
  for (double& h : hidden) h = std::tanh(h);
  return Affine(tensors, 6, hidden);
}

inline double MultVaeLoss(const v1::MultVaeModel& spec, const Interactions& train, const Step& step,
                          const Tensors& tensors) {
  const std::vector<int32_t> active = ActiveUsers(train);
  EpochOrder order(static_cast<int64_t>(active.size()));
  const auto places = order.Of(step);
  double loss = 0;
  double divergence = 0;
  for (size_t n = 0; n < places.size(); ++n) {
    const auto items = train.Of(active[places[n]]);
    const VaeDraw draw =
        DrawVae(spec, step, static_cast<int64_t>(n), static_cast<int64_t>(items.size()));
    const auto scores = VaeScores(spec, tensors, items, draw.inputs, draw.noise, divergence);
    double sum = 0;
    for (const double score : scores) sum += std::exp(score);
    for (const int32_t item : items) loss -= scores[item] - std::log(sum);
  }
  const double annealed =
      static_cast<double>(step.index) / static_cast<double>(spec.anneal_steps());
  return (loss + std::min(spec.kl_weight(), annealed) * divergence) /
         static_cast<double>(places.size());
}

inline double ReferenceLoss(const v1::RecommenderSpec& spec, const Interactions& train,
                            const Step& step, const Tensors& tensors, const Fields& fields) {
  if (spec.has_autoint()) {
    return ReferencePairLoss(train, spec.autoint().negatives(), step,
                             [&](int32_t user, int32_t item) {
                               return AutoIntScore(spec.autoint(), fields, tensors, user, item);
                             });
  }
  if (spec.has_lightgcn()) return LightGcnLoss(spec.lightgcn(), train, step, tensors);
  if (spec.has_neumf()) return NeuMfLoss(spec.neumf(), train, step, tensors);
  return MultVaeLoss(spec.multvae(), train, step, tensors);
}

}  // namespace espalier::worker::recommender
