#include "server/object_store/s3_signature.h"

#include <gtest/gtest.h>

#include <string>

#include "common/io/sha256.h"

namespace espalier::server::object_store {
namespace {

// The examples of "Authenticating Requests: Using the Authorization Header" in Amazon's reference
// of S3.
class AmazonsExamples : public ::testing::Test {
 protected:
  static SignedRequest Request(const std::string& method, const std::string& path,
                               const std::string& body = "") {
    SignedRequest request;
    request.method = method;
    request.path = path;
    request.headers["host"] = "examplebucket.s3.amazonaws.com";
    request.headers[kContentHeader] = io::Sha256Hex(body);
    request.headers[kDateHeader] = AmzTime(kTime);
    return request;
  }
  static std::string Sign(const SignedRequest& request) {
    const S3Credentials credentials{"AKIAIOSFODNN7EXAMPLE",
                                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
    return Authorization(request, credentials, "us-east-1", kTime);
  }
  static std::string Expected(const std::string& headers, const std::string& signature) {
    return "AWS4-HMAC-SHA256 "
           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" +
           headers + ",Signature=" + signature;
  }

  static inline const absl::Time kTime =
      absl::FromCivil(absl::CivilSecond(2013, 5, 24), absl::UTCTimeZone());
};

TEST_F(AmazonsExamples, GetObject) {
  SignedRequest request = Request("GET", "/test.txt");
  request.headers["range"] = "bytes=0-9";
  EXPECT_EQ(io::Sha256Hex(CanonicalRequest(request)),
            "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
  EXPECT_EQ(Sign(request),
            Expected("host;range;x-amz-content-sha256;x-amz-date",
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
}

TEST_F(AmazonsExamples, PutObject) {
  SignedRequest request =
      Request("PUT", "/" + UriEncode("test$file.text", true), "Welcome to Amazon S3.");
  request.headers["date"] = "Fri, 24 May 2013 00:00:00 GMT";
  request.headers["x-amz-storage-class"] = "REDUCED_REDUNDANCY";
  EXPECT_EQ(Sign(request),
            Expected("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST_F(AmazonsExamples, GetBucketLifecycle) {
  SignedRequest request = Request("GET", "/");
  request.query["lifecycle"] = "";
  EXPECT_EQ(Sign(request),
            Expected("host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
}

TEST_F(AmazonsExamples, ListObjects) {
  SignedRequest request = Request("GET", "/");
  request.query["prefix"] = "J";
  request.query["max-keys"] = "2";
  EXPECT_EQ(Sign(request),
            Expected("host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST(S3SignatureTest, TimesAreInUtc) {
  EXPECT_EQ(AmzTime(absl::FromUnixSeconds(1'700'000'000)), "20231114T221320Z");
}

TEST(S3SignatureTest, OnlyUnreservedCharactersStayAsTheyAre) {
  EXPECT_EQ(UriEncode("aZ09-._~", false), "aZ09-._~");
  EXPECT_EQ(UriEncode("a b+c/d*\xc3\xa4%", true), "a%20b%2Bc/d%2A%C3%A4%25");
  EXPECT_EQ(UriEncode("a/b", false), "a%2Fb");
}

TEST(S3SignatureTest, QueriesAreInTheOrderOfTheirEscapes) {
  EXPECT_EQ(CanonicalQuery({}), "");
  EXPECT_EQ(CanonicalQuery({{"uploads", ""}, {"b", "1 2"}, {"a", "x/y"}}),
            "a=x%2Fy&b=1%202&uploads=");
}

TEST(S3SignatureTest, BlanksInHeadersDoNotCount) {
  SignedRequest request;
  request.method = "GET";
  request.path = "/";
  request.headers = {{"host", "h"}, {kContentHeader, "digest"}, {"x-amz-meta-a", "  b   c "}};
  EXPECT_EQ(CanonicalRequest(request),
            "GET\n/\n\nhost:h\nx-amz-content-sha256:digest\nx-amz-meta-a:b c\n\n"
            "host;x-amz-content-sha256;x-amz-meta-a\ndigest");
}

}  // namespace
}  // namespace espalier::server::object_store
