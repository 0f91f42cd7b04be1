#include "client/cli/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/output.h"
#include "client/cli/programs/local_cluster.h"
#include "client/lib/client.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace espalier::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

// Nobody listens on port 1.
Outcome RunArguments(const std::vector<std::string>& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = RunCli(arguments, {out, err, {}, {}}, nullptr);
  return {code, out.str(), err.str()};
}

TEST(ExitCodeTest, EveryStatusCodeHasItsExitCode) {
  const std::pair<absl::StatusCode, int> expected[] = {
      {absl::StatusCode::kOk, 0},
      {absl::StatusCode::kCancelled, 130},
      {absl::StatusCode::kUnknown, 1},
      {absl::StatusCode::kInvalidArgument, 2},
      {absl::StatusCode::kDeadlineExceeded, 6},
      {absl::StatusCode::kNotFound, 3},
      {absl::StatusCode::kAlreadyExists, 5},
      {absl::StatusCode::kPermissionDenied, 4},
      {absl::StatusCode::kResourceExhausted, 8},
      {absl::StatusCode::kFailedPrecondition, 5},
      {absl::StatusCode::kAborted, 5},
      {absl::StatusCode::kOutOfRange, 2},
      {absl::StatusCode::kUnimplemented, 1},
      {absl::StatusCode::kInternal, 1},
      {absl::StatusCode::kUnavailable, 6},
      {absl::StatusCode::kDataLoss, 1},
      {absl::StatusCode::kUnauthenticated, 4},
  };
  for (const auto& [code, exit_code] : expected) {
    EXPECT_EQ(ExitCodeOf(absl::Status(code, "x")), exit_code) << static_cast<int>(code);
  }
}

TEST(ExitCodeTest, OnlyASucceededJobIsASuccess) {
  EXPECT_EQ(ExitCodeOf(v1::Job::STATE_SUCCEEDED), 0);
  EXPECT_EQ(ExitCodeOf(v1::Job::STATE_FAILED), 7);
  EXPECT_EQ(ExitCodeOf(v1::Job::STATE_CANCELLED), 7);
}

TEST(AppTest, HelpLeadsWithExamples) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"--help"}, {"job", "submit", "--help"}, {"up", "-h"}}) {
    const Outcome outcome = RunArguments(arguments);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.err, IsEmpty());
    EXPECT_LT(outcome.out.find("Examples:"), outcome.out.find("Usage:"));
  }
}

TEST(AppTest, HelpFitsATerminal) {
  const std::vector<std::string> commands[] = {{},
                                               {"demo"},
                                               {"up"},
                                               {"job"},
                                               {"job", "submit"},
                                               {"job", "list"},
                                               {"job", "get"},
                                               {"job", "rounds"},
                                               {"job", "watch"},
                                               {"job", "cancel"},
                                               {"worker"},
                                               {"worker", "list"},
                                               {"method"},
                                               {"method", "list"},
                                               {"method", "describe"},
                                               {"checkpoint"},
                                               {"checkpoint", "list"},
                                               {"checkpoint", "get"},
                                               {"cert"},
                                               {"cert", "init"},
                                               {"cert", "issue"},
                                               {"cert", "keep"},
                                               {"cert", "list"},
                                               {"cert", "renew"},
                                               {"cert", "revoke"},
                                               {"cluster"},
                                               {"cluster", "status"},
                                               {"version"}};
  for (std::vector<std::string> arguments : commands) {
    arguments.emplace_back("--help");
    std::istringstream help(RunArguments(arguments).out);
    for (std::string line; std::getline(help, line);) {
      EXPECT_LE(Columns(line), 80) << ::testing::PrintToString(arguments) << line;
    }
  }
}

TEST(AppTest, OptionsAreToldWithRangeDefaultAndEnvironment) {
  EXPECT_THAT(
      RunArguments({"up", "--help"}).out,
      AllOf(HasSubstr("  --workers N               Number of workers, 1 to 256 (default 3)\n"),
            HasSubstr("[ESPALIER_DATA]")));
}

TEST(AppTest, HelpOnACommandSaysWhereTheOptionsOfAllAre) {
  EXPECT_THAT(RunArguments({"job", "list", "--help"}).out, HasSubstr("--server"));
  // It talks to no coordinator.
  EXPECT_THAT(RunArguments({"cert", "list", "--help"}).out, Not(HasSubstr("--server")));
}

TEST(AppTest, VersionIsACommandAndAnOption) {
  const Outcome option = RunArguments({"--version"});
  EXPECT_EQ(option.code, 0);
  EXPECT_EQ(option.out, RunArguments({"version"}).out);
  EXPECT_THAT(option.out, StartsWith("espalier "));
}

TEST(AppTest, UnknownCommandGetsASuggestion) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"jobb"}, "espalier: unknown command \"jobb\"; did you mean \"job\"?"},
      {{"job", "submitt", "x"},
       "espalier job: unknown command \"submitt\"; did you mean \"submit\"?"},
      {{"--server", "h:1", "wroker"}, "did you mean \"worker\"?"},
      {{"frobnicate"}, "known: demo, up, init, dashboard, job"},
      {{"job"}, "espalier job: expected a command after it"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Outcome outcome = RunArguments(arguments);
    EXPECT_EQ(outcome.code, kExitUsage);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(expected), HasSubstr("--help")));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST(AppTest, HelpOnNoCommandIsAnError) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"nonsense", "--help"},
                                                    {"--help", "nonsense"},
                                                    {"help", "nonsense"}}) {
    const Outcome outcome = RunArguments(arguments);
    EXPECT_EQ(outcome.code, kExitUsage);
    EXPECT_THAT(outcome.err, HasSubstr("espalier: unknown command \"nonsense\""));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
  EXPECT_THAT(RunArguments({"job", "nonsense", "-h"}).err,
              HasSubstr("espalier job: unknown command \"nonsense\""));
}

TEST(AppTest, HelpIsACommandToo) {
  EXPECT_EQ(RunArguments({"help"}).out, RunArguments({"--help"}).out);
  EXPECT_EQ(RunArguments({"help", "job"}).out, RunArguments({"job", "--help"}).out);
  const Outcome outcome = RunArguments({"--server", "a:1", "help", "job", "submit"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, RunArguments({"job", "submit", "--help"}).out);
}

// Nothing that a program reads as data is replaced by text.
TEST(AppTest, CommandsWithoutDataRefuseDataFormats) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", ".", "--prompt", "x", "-o", "json"},
        {"job", "watch", "x", "-o", "yaml"}}) {
    const Outcome outcome = RunArguments(arguments);
    EXPECT_EQ(outcome.code, kExitUsage) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("prints"));
  }
}

TEST(AppTest, StatesOfJobsAreWords) {
  const Outcome outcome = RunArguments({"job", "list", "--state", "runing"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("running"));
  // Accepted, and nobody is there.
  EXPECT_EQ(RunArguments({"--server", "127.0.0.1:1", "job", "list", "--state", "RUNNING"}).code,
            kExitUnavailable);
}

TEST(AppTest, BadArgumentsAreUsageErrors) {
  const std::vector<std::string> cases[] = {{"job", "get"},
                                            {"job", "list", "--limit", "0"},
                                            {"job", "list", "--nonsense"},
                                            {"version", "-o", "xml"},
                                            {"version", "--timeout", "soon"},
                                            {"cluster", "status", "--server", "no-port"},
                                            {"up", "--workers", "0"}};
  for (const auto& arguments : cases) {
    const Outcome outcome = RunArguments(arguments);
    EXPECT_EQ(outcome.code, kExitUsage) << ::testing::PrintToString(arguments);
    EXPECT_THAT(outcome.err, StartsWith("error: "));
  }
}

TEST(AppTest, OptionsOfTheRootMayFollowTheCommand) {
  const Outcome outcome = RunArguments({"version", "-o", "json"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(nlohmann::json::parse(outcome.out).contains("protocol_max"));
}

TEST(AppTest, AbsentCoordinatorIsExitCodeSix) {
  const Outcome outcome =
      RunArguments({"job", "list", "--server", "127.0.0.1:1", "--timeout", "2s"});
  EXPECT_EQ(outcome.code, kExitUnavailable);
  EXPECT_THAT(outcome.err, HasSubstr("espalier up"));
}

TEST(AppTest, ErrorsHonourTheJsonFormat) {
  const Outcome outcome =
      RunArguments({"-o", "json", "job", "get", "x", "--server", "127.0.0.1:1", "--timeout", "2s"});
  const auto error = nlohmann::json::parse(outcome.err);
  EXPECT_EQ(error["code"], "UNAVAILABLE");
  EXPECT_EQ(error["reason"], "COORDINATOR_UNREACHABLE");
  const auto usage = nlohmann::json::parse(RunArguments({"job", "-o", "json"}).err);
  EXPECT_EQ(usage["reason"], "USAGE");
}

TEST(AppTest, MissingJobFileIsNotFound) {
  EXPECT_EQ(RunArguments({"job", "submit", "/nonexistent.yaml"}).code, kExitNotFound);
}

TEST(AppTest, InvalidJobFileIsRefusedWithoutAServer) {
  std::string path = (std::filesystem::temp_directory_path() / "job-XXXXXX").string();
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  const std::string yaml = "federation: {rounds: 0}\n";
  ASSERT_EQ(write(fd, yaml.data(), yaml.size()), static_cast<ssize_t>(yaml.size()));
  close(fd);
  const Outcome outcome = RunArguments({"job", "submit", path});
  std::filesystem::remove(path);
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("federation.rounds: line 1: must be 1..1,000,000, found 0"));
}

TEST(ErrorTextTest, ViolationsAreListed) {
  const absl::Status status = client::WithViolations(
      base::InvalidArgument("JOB_INVALID", "the job has 1 problem"), {{"a.b", "must be 1"}});
  EXPECT_EQ(ErrorText(status, Format::kTable, {}),
            "error: the job has 1 problem\n  a.b: must be 1\n");
  EXPECT_EQ(ErrorText(status, Format::kJson, {}), R"({
  "code": "INVALID_ARGUMENT",
  "reason": "JOB_INVALID",
  "message": "the job has 1 problem",
  "violations": [
    {
      "field": "a.b",
      "description": "must be 1"
    }
  ]
}
)");
}

TEST(ErrorTextTest, ViolationsThatDidNotFitAreCounted) {
  const absl::Status status =
      client::WithViolations(base::InvalidArgument("X", "y"), {{"a", "b"}}, 143);
  EXPECT_THAT(ErrorText(status, Format::kTable, {}), HasSubstr("  … and 143 more\n"));
  EXPECT_EQ(nlohmann::json::parse(ErrorText(status, Format::kJson, {}))["violations_left_out"],
            143);
}

TEST(ErrorTextTest, WhatTheServerSaysIsOneLine) {
  const absl::Status status = client::WithViolations(base::NotFound("X", "a\nerror: forged\x1b[2J"),
                                                     {{"f\ng", "d\n  forged \xC2\x9B"}});
  EXPECT_EQ(ErrorText(status, Format::kTable, {}),
            "error: a\\nerror: forged\\x1b[2J\n  f\\ng: d\\n  forged \\u009b\n");
  EXPECT_THAT(ErrorText(status, Format::kJson, {}), HasSubstr("forged \\u009b"));
}

TEST(ErrorTextTest, FurtherLinesStandBelowTheMessage) {
  const absl::Status status =
      WithFurtherLines(base::NotFound("X", "a"), {"first\nforged", "second"});
  EXPECT_EQ(ErrorText(status, Format::kTable, {}), "error: a\n  first\\nforged\n  second\n");
  EXPECT_EQ(nlohmann::json::parse(ErrorText(status, Format::kJson, {}))["message"],
            "a\nfirst\\nforged\nsecond");
}

// Takes no more than some bytes, like a full disk.
class FullBuffer : public std::streambuf {
  int_type overflow(int_type) override { return traits_type::eof(); }
};

TEST(AppTest, OutputThatCannotBeWrittenIsAnError) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"version"}, {"--help"}, {"version", "-o", "json"}}) {
    FullBuffer full;
    std::ostream out(&full);
    std::ostringstream err;
    EXPECT_EQ(RunCli(arguments, {out, err, {}, {}}, nullptr), kExitExhausted);
    EXPECT_THAT(err.str(), HasSubstr("standard output could not be written"));
  }
}

TEST(LocalClusterTest, WordsOfAReadyLineAreFound) {
  const std::string line = "listening address=127.0.0.1:7070 metrics=127.0.0.1:7071";
  EXPECT_EQ(WordValue(line, "address"), "127.0.0.1:7070");
  EXPECT_EQ(WordValue(line, "metrics"), "127.0.0.1:7071");
  EXPECT_EQ(WordValue(line, "dress"), "");
}

}  // namespace
}  // namespace espalier::cli
