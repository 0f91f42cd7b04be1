// A scorer whose scores are dot products of embeddings.
//
// Shapes:  users and items [n][stride], row-major, stride a multiple of 16 with zeros at the end.
// Threading: embeddings are shared and not changed; a scorer belongs to one thread.
#pragma once

#include <memory>

#include "worker/engine/aligned_buffer.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

struct DotEmbeddings {
  int64_t stride = 0;
  float scale = 1;  // of a product of these embeddings to be the model's score
  engine::AlignedBuffer users;
  engine::AlignedBuffer items;
};

std::unique_ptr<Scorer> MakeDotScorer(std::shared_ptr<const DotEmbeddings> embeddings);

}  // namespace espalier::worker::recommender
