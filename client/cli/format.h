// Numbers, sizes and times as people read them. Pure functions.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

// 1536 → "1.5 kB" (powers of 1000).
std::string HumanBytes(int64_t bytes);
// 75.4 s → "1m 15s"; below 10 s with one decimal; below 1 s in milliseconds.
std::string HumanDuration(absl::Duration duration);
// 0.9512 → "95.1 %".
std::string Percent(double ratio);
// "2026-03-01T12:00:00Z", "-" when unset.
std::string AbsoluteTime(const google::protobuf::Timestamp& time);
// "3m ago", "-" when unset.
std::string RelativeTime(const google::protobuf::Timestamp& time, absl::Time now);

absl::Duration ToDuration(const google::protobuf::Duration& duration);
absl::Time ToTime(const google::protobuf::Timestamp& time);

// "STATE_RUNNING" → "RUNNING".
std::string StateWord(v1::Job::State state);
bool HasEnded(v1::Job::State state);

// What a job's rounds are compared by, its main metric, and its value as people write it.
std::string ScoreName(const v1::JobSpec& spec);
std::string ScoreText(const v1::JobSpec& spec, double value);
// Shares of right answers are percentages.
std::string MetricText(std::string_view name, double value);

// Central test accuracy, else the federated one.
std::optional<double> AccuracyOf(const v1::RoundSummary& summary);

// What a round is judged by, with its value as people write it. Absent where the round was not
// evaluated.
struct Judgement {
  std::string name;
  std::string text;
};
std::optional<Judgement> JudgementOf(const v1::JobSpec& spec, const v1::RoundSummary& summary);

// Whether a round was the best one.
bool HasBest(const v1::Job& job);

// Rounds that the job commits, those of all its runs together.
int TotalRounds(const v1::Job& job);

// Whether a round sent fewer bytes because weights are absent: it trained, and a sparse model.
bool TrainsSparse(const v1::RoundSummary& summary);

// `text` cut to `columns` characters (UTF-8 counted once), with "…" when something was cut.
std::string FitTo(const std::string& text, int columns);
// Columns that `text` takes on a terminal: its characters; all of ours are one column wide.
int Columns(const std::string& text);

}  // namespace espalier::cli
