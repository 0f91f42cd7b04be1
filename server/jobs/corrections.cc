#include "server/jobs/corrections.h"

#include <vector>

#include "common/wire/values_codec.h"
#include "server/methods/aggregation/control_variates.h"

namespace espalier::server::jobs {

Corrections PublishCorrections(const methods::ServerState& state,
                               std::span<const round::ParticipantSpec> participants,
                               const std::shared_ptr<round::Traffic>& traffic,
                               round::BlobStore& blobs) {
  Corrections corrections;
  std::shared_ptr<const round::Blob> of_the_new;  // of all who take part for the first time
  for (const round::ParticipantSpec& participant : participants) {
    const bool is_new = !state.controls.contains(participant.name);
    if (is_new && of_the_new != nullptr) {
      corrections[participant.name] = of_the_new;
      continue;
    }
    const std::vector<float> correction = methods::Correction(state, participant.name);
    if (correction.empty()) continue;
    const auto blob = blobs.Put(std::string(wire::ValuesAsBytes(correction)), true, traffic);
    corrections[participant.name] = blob;
    if (is_new) of_the_new = blob;
  }
  return corrections;
}

}  // namespace espalier::server::jobs
