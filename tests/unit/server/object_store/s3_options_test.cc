#include "server/object_store/s3_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

#include "common/base/status.h"
#include "common/io/atomic_file.h"

namespace espalier::server::object_store {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Environment Of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

// A credentials file that goes with the test.
class CredentialsFile {
 public:
  explicit CredentialsFile(const std::string& text)
      : path_(::testing::TempDir() + "/espalier_credentials_" + std::to_string(getpid())) {
    EXPECT_TRUE(io::WriteAtomically(io::PosixFileSystem(), path_, text).ok());
  }
  ~CredentialsFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

TEST(S3UrlTest, BucketAndPrefixAreTakenApart) {
  EXPECT_EQ(ParseS3Url("s3://models")->bucket, "models");
  EXPECT_EQ(ParseS3Url("s3://models/")->prefix, "");
  const S3Location location = ParseS3Url("s3://models//team a/\xc3\xa4+/").value();
  EXPECT_EQ(location.bucket, "models");
  EXPECT_EQ(location.prefix, "team a/\xc3\xa4+");
}

TEST(S3UrlTest, OthersAreRefused) {
  for (const std::string url :
       {"", "s3://", "s3:///a", "s3://ab", "models", "http://models", "s3://mo dels", "s3://a..b/c",
        "s3://models/a//b", "s3://models/../b", "s3://models/./b", "s3://models/a\nb",
        "s3://models/\xff", "s3://user@models"}) {
    EXPECT_EQ(base::ReasonOf(ParseS3Url(url).status()), "INVALID_S3_URL") << url;
  }
  EXPECT_FALSE(ParseS3Url("s3://models/" + std::string(600, 'a')).ok());
}

TEST(S3OptionsTest, VariablesAreRead) {
  const S3Options options =
      S3OptionsFromEnvironment({"models", "a/b"}, Of({{"AWS_ACCESS_KEY_ID", "id"},
                                                      {"AWS_SECRET_ACCESS_KEY", "secret"},
                                                      {"AWS_SESSION_TOKEN", "token"},
                                                      {"AWS_REGION", "eu-central-1"},
                                                      {"AWS_CA_BUNDLE", "/ca.pem"}}))
          .value();
  EXPECT_EQ(options.bucket, "models");
  EXPECT_EQ(options.prefix, "a/b");
  EXPECT_EQ(options.credentials.access_key_id, "id");
  EXPECT_EQ(options.credentials.secret_access_key, "secret");
  EXPECT_EQ(options.credentials.session_token, "token");
  EXPECT_EQ(options.region, "eu-central-1");
  EXPECT_EQ(options.endpoint, "https://s3.eu-central-1.amazonaws.com");
  EXPECT_EQ(options.ca_file, "/ca.pem");
}

TEST(S3OptionsTest, TheEndpointForS3GoesBeforeTheGeneralOne) {
  std::map<std::string, std::string> variables = {{"AWS_ACCESS_KEY_ID", "id"},
                                                  {"AWS_SECRET_ACCESS_KEY", "secret"},
                                                  {"AWS_ENDPOINT_URL", "http://general:9000/"}};
  const auto endpoint = [&] {
    return S3OptionsFromEnvironment({"models", ""}, Of(variables))->endpoint;
  };
  EXPECT_EQ(endpoint(), "http://general:9000");
  variables["AWS_ENDPOINT_URL_S3"] = "https://s3";
  EXPECT_EQ(endpoint(), "https://s3");
}

TEST(S3OptionsTest, ProfilesOfACredentialsFileAreRead) {
  const CredentialsFile file(
      "# ours\n"
      "aws_access_key_id = nobody\n"
      "[default]\r\n"
      "aws_access_key_id=id\r\n"
      "aws_secret_access_key = sec=ret \r\n"
      "\n"
      "[ other ]\n"
      "aws_access_key_id = id2\n"
      "aws_secret_access_key = secret2\n"
      "aws_session_token = token2\n"
      "region = nowhere\n"
      "[half]\n"
      "aws_access_key_id = id3\n");
  std::map<std::string, std::string> variables = {{"AWS_SHARED_CREDENTIALS_FILE", file.path()}};
  auto options = S3OptionsFromEnvironment({"models", ""}, Of(variables));
  ASSERT_TRUE(options.ok()) << base::MessageOf(options.status());
  EXPECT_EQ(options->credentials.access_key_id, "id");
  EXPECT_EQ(options->credentials.secret_access_key, "sec=ret");
  EXPECT_EQ(options->credentials.session_token, "");
  EXPECT_EQ(options->region, "us-east-1");
  variables["AWS_PROFILE"] = "other";
  options = S3OptionsFromEnvironment({"models", ""}, Of(variables));
  EXPECT_EQ(options->credentials.secret_access_key, "secret2");
  EXPECT_EQ(options->credentials.session_token, "token2");
  for (const char* profile : {"half", "none"}) {
    variables["AWS_PROFILE"] = profile;
    const absl::Status status = S3OptionsFromEnvironment({"models", ""}, Of(variables)).status();
    EXPECT_EQ(base::ReasonOf(status), "S3_CREDENTIALS");
    EXPECT_THAT(base::MessageOf(status), HasSubstr(profile));
  }
}

TEST(S3OptionsTest, MissingKeysAreSaidAndPresentOnesAreNot) {
  const std::map<std::string, std::string> cases[] = {
      {},
      {{"HOME", "/nonexistent"}},
      {{"AWS_ACCESS_KEY_ID", "visible"}},
      {{"AWS_SECRET_ACCESS_KEY", "visible"}},
      {{"AWS_ACCESS_KEY_ID", "id"}, {"AWS_SECRET_ACCESS_KEY", "visible\nx-evil: 1"}}};
  for (const auto& variables : cases) {
    const absl::Status status = S3OptionsFromEnvironment({"models", ""}, Of(variables)).status();
    EXPECT_EQ(base::ReasonOf(status), "S3_CREDENTIALS");
    EXPECT_THAT(base::MessageOf(status), HasSubstr("AWS_ACCESS_KEY_ID"));
    EXPECT_THAT(base::MessageOf(status), Not(HasSubstr("visible")));
  }
}

class S3OptionsCheck : public ::testing::Test {
 protected:
  S3OptionsCheck() {
    options_.endpoint = "http://127.0.0.1:9000";
    options_.bucket = "models";
    options_.credentials = {"id", "secret", ""};
  }
  std::string Reason() const { return base::ReasonOf(CheckS3Options(options_)); }

  S3Options options_;
};

TEST_F(S3OptionsCheck, DefaultsAreValid) { EXPECT_TRUE(CheckS3Options(options_).ok()); }

TEST_F(S3OptionsCheck, EndpointsAreHostsOnly) {
  for (const char* endpoint : {"https://a", "http://[::1]:9000", "http://a.b:1"}) {
    options_.endpoint = endpoint;
    EXPECT_EQ(Reason(), "") << endpoint;
  }
  for (const char* endpoint : {"", "a:9000", "ftp://a", "https://", "https://a/b", "https://a?b",
                               "https://a b", "https://a\r\nb"}) {
    options_.endpoint = endpoint;
    EXPECT_EQ(Reason(), "INVALID_S3_OPTIONS") << endpoint;
  }
  options_.endpoint = "https://user:password@a";
  EXPECT_EQ(Reason(), "INVALID_S3_OPTIONS");
  EXPECT_THAT(base::MessageOf(CheckS3Options(options_)), Not(HasSubstr("password")));
}

TEST_F(S3OptionsCheck, NumbersThatStoresRefuseAreRefusedBefore) {
  const auto refused = [&](auto member, auto value) {
    const S3Options before = options_;
    options_.*member = value;
    const std::string reason = Reason();
    options_ = before;
    return reason == "INVALID_S3_OPTIONS";
  };
  EXPECT_TRUE(refused(&S3Options::part_bytes, 1000u));
  EXPECT_TRUE(refused(&S3Options::copy_part_bytes, uint64_t{6} << 30));
  EXPECT_TRUE(refused(&S3Options::attempts, 0));
  EXPECT_TRUE(refused(&S3Options::request_timeout, absl::ZeroDuration()));
  EXPECT_TRUE(refused(&S3Options::stall_timeout, absl::InfiniteDuration()));
  EXPECT_TRUE(refused(&S3Options::longest_backoff, absl::Hours(1)));
  EXPECT_TRUE(refused(&S3Options::slowest_bytes_per_second, 0u));
  EXPECT_TRUE(refused(&S3Options::region, "us east"));
  EXPECT_TRUE(refused(&S3Options::prefix, "/a"));
  EXPECT_TRUE(refused(&S3Options::bucket, "a/b"));
}

}  // namespace
}  // namespace espalier::server::object_store
