// Learning-rate schedules over rounds.
//
// Units:       rounds are 1-based; the factor multiplies the optimizer's learning rate.
// Determinism: pure function.
#pragma once

#include "espalier/v1/job.pb.h"

namespace espalier::server::methods {

// The factor of round `round` out of `rounds`. COSINE and LINEAR go from 1 in the first round
// towards `final_factor`, which they would reach one round after the last. STEP multiplies by
// `factor` at each milestone. Warm-up over n rounds multiplies round r <= n by r / (n + 1).
// `schedule` has its defaults filled in.
double LearningRateFactor(const v1::LearningRateSchedule& schedule, int round, int rounds);

}  // namespace espalier::server::methods
