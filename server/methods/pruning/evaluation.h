// Evaluating a model that is pruned: the step, and what a summary says of its result.
#pragma once

#include <optional>

#include "server/methods/program.h"

namespace espalier::server::methods {

// On one worker's whole test split, or (evaluation.federated, or data that is LOCAL) on everybody's
// share.
Step EvaluationStep(const v1::JobSpec& spec, int32_t round);

// Loss and accuracy; absent without test examples.
struct Score {
  double loss = 0;
  double accuracy = 0;
};
std::optional<Score> ScoreOf(const reduce::Reduced& reduced);

// Perplexity only for language models.
void SetScore(const v1::JobSpec& spec, const std::optional<Score>& score, bool language,
              v1::RoundSummary& summary);
void SetDenseScore(const std::optional<Score>& score, bool language, v1::RoundSummary& summary);

// A score as a program's memory.
std::string EncodeScore(const std::optional<Score>& score);
std::optional<Score> DecodeScore(const std::string& bytes);

}  // namespace espalier::server::methods
