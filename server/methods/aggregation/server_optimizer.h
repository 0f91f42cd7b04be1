// The server's optimizer: from the round's model x and the aggregate a of its updates to the next
// model. With Δ = a − x, for each learned weight:
//
// - MOMENTUM (FedAvgM): v ← βv + Δ; x ← x + ηv. With β = 0 and η = 1 the result is a, bit for bit.
// - ADAM (FedAdam):     m ← β₁m + (1 − β₁)Δ; v ← β₂v + (1 − β₂)Δ²; x ← x + ηm / (√v + τ).
// - YOGI (FedYogi):     the same, with v ← v − (1 − β₂)Δ² sign(v − Δ²).
//
// v begins at τ², also at a grown weight. There is no bias correction. Running statistics are not
// stepped: theirs is the aggregate.
//
// Determinism: elementwise, in float64; the state is rounded to float32.
// Threading:   pure function.
// Sources:     Hsu, Qi, Brown 2019; Reddi et al. 2021, algorithm 2.
#pragma once

#include <span>

#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/aggregation/server_state.h"

namespace espalier::server::methods {

// `aggregation` has its defaults filled in. `before` and `aggregate` have one value for each stored
// weight of `topology`; the next model takes the aggregate's place.
void TakeServerStep(const v1::Aggregation& aggregation, const tensor::ModelTopology& topology,
                    std::span<const float> before, std::span<float> aggregate, ServerState& state);

}  // namespace espalier::server::methods
