#include "client/dashboard/static_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>

namespace espalier::dashboard {
namespace {

using ::testing::Contains;
using ::testing::Pair;

std::string Zipped(const std::string& text) {
  constexpr int kGzip = 16;
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, 8, Z_DEFAULT_STRATEGY);
  std::string zipped(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(zipped.data());
  stream.avail_out = static_cast<uInt>(zipped.size());
  deflate(&stream, Z_FINISH);
  zipped.resize(stream.total_out);
  deflateEnd(&stream);
  return zipped;
}

class StaticFilesTest : public ::testing::Test {
 protected:
  std::optional<Reply> Get(const std::string& path, const std::string& encoding = "",
                           const std::string& known = "") {
    Request request;
    request.target = *ParseTarget(path);
    if (!encoding.empty()) request.headers["accept-encoding"] = encoding;
    if (!known.empty()) request.headers["if-none-match"] = known;
    return StaticReply(request, files_);
  }

  const std::string page_ = Zipped("<!doctype html>");
  const std::string script_ = Zipped(std::string(100'000, 'x'));
  const std::vector<WebFile> files_ = {
      {"index.html", "text/html; charset=utf-8", "\"p\"", page_},
      {"assets/app-1a.js", "text/javascript; charset=utf-8", "\"s\"", script_}};
};

TEST_F(StaticFilesTest, EveryViewIsThePage) {
  for (const char* path : {"/", "/jobs", "/jobs/a/rounds/3", "/workers/"}) {
    const auto reply = Get(path);
    ASSERT_TRUE(reply.has_value()) << path;
    EXPECT_EQ(*reply->body, "<!doctype html>");
    EXPECT_THAT(reply->headers, Contains(Pair("Cache-Control", "no-cache")));
  }
}

TEST_F(StaticFilesTest, AssetsAreKeptForEver) {
  const auto reply = Get("/assets/app-1a.js");
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(*reply->body, std::string(100'000, 'x'));
  EXPECT_THAT(reply->headers,
              Contains(Pair("Cache-Control", "public, max-age=31536000, immutable")));
  EXPECT_THAT(reply->headers, Contains(Pair("Content-Type", "text/javascript; charset=utf-8")));
}

TEST_F(StaticFilesTest, CompressedForWhoTakesIt) {
  for (const char* encoding : {"gzip", "br, gzip, deflate", "GZIP;q=0.5", "*"}) {
    const auto reply = Get("/assets/app-1a.js", encoding);
    EXPECT_EQ(*reply->body, script_) << encoding;
    EXPECT_THAT(reply->headers, Contains(Pair("Content-Encoding", "gzip")));
  }
  for (const char* encoding : {"identity", "br", "gzip;q=0", "xgzip"}) {
    EXPECT_EQ(Get("/assets/app-1a.js", encoding)->body->size(), 100'000U) << encoding;
  }
}

TEST_F(StaticFilesTest, WhoHasItGetsNothing) {
  const auto reply = Get("/assets/app-1a.js", "gzip", "\"other\", W/\"s\"");
  EXPECT_EQ(reply->status, 304U);
  EXPECT_EQ(reply->body, nullptr);
  EXPECT_EQ(Get("/assets/app-1a.js", "gzip", "\"other\"")->status, 200U);
}

TEST_F(StaticFilesTest, OtherFilesAreNotThere) {
  for (const char* path : {"/favicon.ico", "/assets/app-1a.js.map", "/assets/x.js", "/a.b"}) {
    EXPECT_FALSE(Get(path).has_value()) << path;
  }
}

TEST_F(StaticFilesTest, DamageIsNoticed) {
  EXPECT_FALSE(Unzipped("no gzip at all").ok());
  EXPECT_FALSE(Unzipped(script_.substr(0, script_.size() / 2)).ok());
}

}  // namespace
}  // namespace espalier::dashboard
