// TwinView: two jobs side by side while they train, and what came of them. Used by `demo`.
//
// On a terminal one block is drawn in place after every round and gives way to the final table; in
// a pipe, or where the block would not fit, there is a plain line for the first round and every
// tenth that both jobs have committed.
//
// Threading: not thread-safe. Determinism: what is printed depends on the rounds only.
#pragma once

#include <array>
#include <map>
#include <ostream>
#include <string>

#include "client/cli/live_block.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

class TwinView {
 public:
  // Borrows `out`. The first job is the sparse one; both run `rounds` rounds.
  TwinView(std::ostream& out, const Terminal& terminal, std::array<std::string, 2> titles,
           int rounds);

  // Shows the view before the first round.
  void Start();
  // `twin` is 0 or 1.
  void OnRound(size_t twin, const v1::RoundSummary& summary);
  // A line that stays, about one of the jobs.
  void Note(size_t twin, const std::string& text);
  // Ends the view; the final table takes the place of the live block. The jobs are as they ended.
  void Compare(const std::array<v1::Job, 2>& jobs);

 private:
  struct Twin {
    RunTotals totals;
    std::map<int, v1::RoundSummary> rounds;
    double accuracy = -1;  // newest known, < 0 before the first evaluation
  };

  void ShowLive();
  std::string RoundCell(const Twin& twin) const;
  std::string BarCell(const Twin& twin) const;
  std::string LeftCell(const Twin& twin) const;
  void ShowRows();

  std::ostream& out_;
  bool is_live_;
  std::array<std::string, 2> titles_;
  int rounds_;
  std::array<Twin, 2> twins_;
  int shown_ = 0;  // newest round in a plain line
  LiveBlock live_;
};

// Bytes that one worker holds for the weights of `job` while it trains them: the values and the
// optimizer's state, and for a sparse model its structure and the structure's transpose. Computed,
// as worker/engine/network.h tells it; an upper bound by the transpose of the first layer, which
// does not exist. Biases, activations and data come on top.
int64_t WeightMemory(const v1::JobSpec& spec, const v1::RoundSummary& round);

}  // namespace espalier::cli
