// Every command: adds itself to `parent` and sets `chosen` when the user picks it. One file each,
// or for some that are alike.
#pragma once

#include <functional>
#include <string>

#include "client/cli/context.h"

namespace espalier::cli {

void AddUp(CLI::App& parent, Command& chosen);
void AddDemo(CLI::App& parent, Command& chosen);
void AddDashboard(CLI::App& parent, Command& chosen);
void AddInit(CLI::App& parent, Command& chosen);
void AddJobSubmit(CLI::App& parent, Command& chosen);
void AddJobList(CLI::App& parent, Command& chosen);
void AddJobGet(CLI::App& parent, Command& chosen);
void AddJobRounds(CLI::App& parent, Command& chosen);
void AddJobFeatures(CLI::App& parent, Command& chosen);
void AddJobWatch(CLI::App& parent, Command& chosen);
// cancel, pause, resume, retry and delete.
void AddJobLife(CLI::App& parent, Command& chosen);
void AddWorkerList(CLI::App& parent, Command& chosen);
// drain and undrain.
void AddWorkerDrain(CLI::App& parent, Command& chosen);
// create, list and revoke, of tokens for new workers and for users.
void AddWorkerToken(CLI::App& parent, Command& chosen);
void AddUserToken(CLI::App& parent, Command& chosen);
void AddWorkerJoin(CLI::App& parent, Command& chosen);
void AddWorkerRevoke(CLI::App& parent, Command& chosen);
void AddWhoAmI(CLI::App& parent, Command& chosen);
void AddDatasetList(CLI::App& parent, Command& chosen);
void AddDatasetDescribe(CLI::App& parent, Command& chosen);
void AddMethodList(CLI::App& parent, Command& chosen);
void AddMethodDescribe(CLI::App& parent, Command& chosen);
void AddRecommend(CLI::App& parent, Command& chosen);
void AddPredict(CLI::App& parent, Command& chosen);
void AddCheckpointList(CLI::App& parent, Command& chosen);
void AddCheckpointGet(CLI::App& parent, Command& chosen);
// verify and delete.
void AddCheckpointVerify(CLI::App& parent, Command& chosen);
void AddGenerate(CLI::App& parent, Command& chosen);
// verify and list.
void AddAudit(CLI::App& parent, Command& chosen);
// init, issue, keep, list, renew and revoke.
void AddCert(CLI::App& parent, Command& chosen);
void AddClusterDoctor(CLI::App& parent, Command& chosen);
void AddClusterStatus(CLI::App& parent, Command& chosen);
void AddVersion(CLI::App& parent, Command& chosen);

// A command about one thing: `run` gets its full name. `what` is "JOB", for instance, and `collection`
// "jobs".
using OfOne = std::function<absl::StatusOr<int>(Context&, const std::string& name)>;
void AddOfOne(CLI::App& parent, Command& chosen, const char* word, const char* description,
              const char* what, const char* collection, OfOne run);

// "espalier 0.1.0 (protocol 1..1)".
std::string VersionLine();

}  // namespace espalier::cli
