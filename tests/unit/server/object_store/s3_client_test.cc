#include "server/object_store/s3_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/io/sha256.h"
#include "server/object_store/s3_file_system.h"
#include "server/object_store/s3_transfer.h"
#include "server/object_store/spool.h"

namespace espalier::server::object_store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Gives the answers of its script in turn, one per connection, and remembers the requests.
class ScriptedServer {
 public:
  // Instead of an answer: keeps the connection open, and says nothing.
  static constexpr char kSilence[] = "silence";

  ScriptedServer() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~ScriptedServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
    for (const int silent : silent_) close(silent);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void Answer(std::string answer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answers_.push_back(std::move(answer));
  }
  // Answers with this object and ranges of it where the script has ended.
  void Hold(std::string object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    object_ = std::move(object);
  }
  std::vector<std::string> requests() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return requests_;
  }

 private:
  void Serve() {
    for (;;) {
      const int connection = accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      const std::string request = ReadRequest(connection);
      std::string answer;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        requests_.push_back(request);
        if (!answers_.empty()) {
          answer = answers_.front();
          answers_.pop_front();
        } else if (!object_.empty()) {
          answer = Range(request);
        }
      }
      if (answer == kSilence) {
        silent_.push_back(connection);
        continue;
      }
      (void)!send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
      close(connection);
    }
  }

  std::string Range(const std::string& request) const {
    const std::string head = "HTTP/1.1 206 Partial\r\nConnection: close\r\nETag: \"v\"\r\n";
    const size_t range = request.find("range: bytes=");
    if (range == std::string::npos) {
      return head + "Content-Length: " + std::to_string(object_.size()) + "\r\n\r\n";
    }
    const size_t first = std::stoul(request.substr(range + 13));
    const size_t last = std::stoul(request.substr(request.find('-', range) + 1));
    return head + "Content-Length: " + std::to_string(last - first + 1) +
           "\r\nContent-Range: bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
           std::to_string(object_.size()) + "\r\n\r\n" + object_.substr(first, last - first + 1);
  }

  static std::string ReadRequest(int connection) {
    std::string request;
    size_t wanted = std::string::npos;
    char block[65536];
    while (request.size() < wanted) {
      const ssize_t got = recv(connection, block, sizeof(block), 0);
      if (got <= 0) break;
      request.append(block, static_cast<size_t>(got));
      const size_t end = request.find("\r\n\r\n");
      if (end == std::string::npos || wanted != std::string::npos) continue;
      wanted = end + 4;
      const size_t length = request.find("Content-Length: ");
      if (length < end) wanted += std::stoul(request.substr(length + 16));
    }
    return request;
  }

  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
  std::vector<int> silent_;  // of the thread
  mutable std::mutex mutex_;
  std::string object_;
  std::deque<std::string> answers_;
  std::vector<std::string> requests_;
};

std::string Reply(const std::string& status, const std::string& body = "",
                  const std::string& headers = "") {
  return "HTTP/1.1 " + status +
         "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "\r\n" + body;
}

std::string ErrorReply(const std::string& status, const std::string& code,
                       const std::string& message = "some words") {
  return Reply(status,
               "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>");
}

class S3ClientTest : public ::testing::Test {
 protected:
  S3ClientTest() {
    options_.endpoint = server_.endpoint();
    options_.bucket = "models";
    options_.credentials = {"the-key-id", "the-secret", ""};
    options_.attempts = 3;
    options_.first_backoff = absl::Milliseconds(1);
    options_.longest_backoff = absl::Milliseconds(2);
  }
  // A proxy of the user of this machine does not know the server.
  static void SetUpTestSuite() { setenv("no_proxy", "*", 1); }
  std::unique_ptr<S3Client> Client() const { return S3Client::Create(options_).value(); }
  absl::Status Put(const std::string& bytes = "abc") {
    Spool body(1 << 20, ::testing::TempDir());
    EXPECT_TRUE(body.Append(bytes).ok());
    return Client()->Put("a b+\xc3\xa4", {&body, 0, body.size()});
  }
  absl::Status Get(size_t size) {
    std::string out(size, '\0');
    return Client()->Get("key", "\"v1\"", 10, out.data(), size);
  }
  static std::string Describe(const absl::Status& status) {
    return absl::StatusCodeToString(status.code()) + " " + base::ReasonOf(status);
  }

  ScriptedServer server_;
  S3Options options_;
};

TEST_F(S3ClientTest, RequestsAreSignedAndSayTheDigestOfTheirBody) {
  server_.Answer(Reply("200 OK"));
  options_.credentials.session_token = "the-token";
  ASSERT_TRUE(Put().ok());
  ASSERT_EQ(server_.requests().size(), 1u);
  const std::string request = server_.requests()[0];
  EXPECT_THAT(request, StartsWith("PUT /models/a%20b%2B%C3%A4 HTTP/1.1\r\n"));
  EXPECT_THAT(request,
              HasSubstr("x-amz-content-sha256: "
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  EXPECT_THAT(request, HasSubstr("x-amz-security-token: the-token\r\n"));
  EXPECT_THAT(request, HasSubstr("authorization: AWS4-HMAC-SHA256 Credential=the-key-id/"));
  EXPECT_THAT(request, HasSubstr("SignedHeaders=host;x-amz-content-sha256;x-amz-date;"
                                 "x-amz-security-token,"));
  EXPECT_THAT(request, Not(HasSubstr("the-secret")));
  EXPECT_TRUE(request.ends_with("\r\n\r\nabc"));
}

TEST_F(S3ClientTest, PassingFailuresAreTriedAgainWithTheWholeBody) {
  server_.Answer(ErrorReply("503 Slow Down", "SlowDown"));
  server_.Answer("");  // the connection breaks
  server_.Answer(Reply("200 OK"));
  EXPECT_TRUE(Put().ok());
  const std::vector<std::string> requests = server_.requests();
  ASSERT_EQ(requests.size(), 3u);
  for (const std::string& request : requests) EXPECT_TRUE(request.ends_with("\r\n\r\nabc"));
}

TEST_F(S3ClientTest, AttemptsAreBounded) {
  for (int i = 0; i < 5; ++i) server_.Answer(ErrorReply("429 Too Many", "SlowDown"));
  const absl::Status status = Put();
  EXPECT_EQ(Describe(status), "UNAVAILABLE STORAGE_ERROR");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("HTTP 429, SlowDown: some words"));
  EXPECT_EQ(server_.requests().size(), 3u);
}

TEST_F(S3ClientTest, LastingErrorsAreNotTriedAgain) {
  const std::pair<std::string, std::string> cases[] = {
      {ErrorReply("403 Forbidden", "AccessDenied"), "PERMISSION_DENIED FILE_ACCESS"},
      {ErrorReply("403 Forbidden", "SignatureDoesNotMatch"), "PERMISSION_DENIED FILE_ACCESS"},
      {ErrorReply("400 Bad Request", "ExpiredToken"), "PERMISSION_DENIED FILE_ACCESS"},
      {ErrorReply("403 Forbidden", "RequestTimeTooSkewed"), "PERMISSION_DENIED FILE_ACCESS"},
      {ErrorReply("403 Forbidden", "QuotaExceeded"), "RESOURCE_EXHAUSTED STORAGE_FULL"},
      {ErrorReply("507 Full", "XMinioStorageFull"), "RESOURCE_EXHAUSTED STORAGE_FULL"},
      {ErrorReply("400 Bad Request", "EntityTooLarge"), "RESOURCE_EXHAUSTED FILE_TOO_LARGE"},
      {ErrorReply("404 Not Found", "NoSuchBucket"), "FAILED_PRECONDITION BUCKET_NOT_FOUND"},
      {ErrorReply("404 Not Found", "NoSuchKey"), "NOT_FOUND FILE_NOT_FOUND"},
      {Reply("301 Moved", "", "x-amz-bucket-region: eu-west-1\r\n"),
       "FAILED_PRECONDITION BUCKET_ELSEWHERE"},
      {ErrorReply("501 Not Implemented", "NotImplemented"), "INTERNAL STORAGE_ERROR"},
      {Reply("400 Bad Request", "<html>a proxy's page"), "INTERNAL STORAGE_ERROR"}};
  size_t sent = 0;
  for (const auto& [answer, expected] : cases) {
    server_.Answer(answer);
    EXPECT_EQ(Describe(Put()), expected) << answer;
    EXPECT_EQ(server_.requests().size(), ++sent) << answer;
  }
}

TEST_F(S3ClientTest, MessagesNameTheObjectAndNeverTheKeys) {
  server_.Answer(ErrorReply("403 Forbidden", "SignatureDoesNotMatch", "the-key-id has another"));
  server_.Answer(ErrorReply("403 Forbidden", "AccessDenied", "the-secret"));
  server_.Answer(
      ErrorReply("400 Bad", "Strange", std::string("\x1b[2Jred") + std::string(999, 'x')));
  for (int i = 0; i < 3; ++i) {
    const std::string message = base::MessageOf(Put());
    EXPECT_THAT(message, HasSubstr("s3://models/a b+\xc3\xa4"));
    EXPECT_THAT(message, Not(HasSubstr("the-")));
    EXPECT_THAT(message, Not(HasSubstr("\x1b")));
    EXPECT_LT(message.size(), 1000u);
  }
}

TEST_F(S3ClientTest, SilenceEndsWithTheTimeout) {
  options_.request_timeout = absl::Milliseconds(100);
  options_.attempts = 2;
  server_.Answer(ScriptedServer::kSilence);
  server_.Answer(ScriptedServer::kSilence);
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Describe(Client()->Head("key").status()), "UNAVAILABLE STORAGE_ERROR");
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  EXPECT_EQ(server_.requests().size(), 2u);
}

TEST_F(S3ClientTest, HeadsWithoutSizeOrVersionAreRefused) {
  server_.Answer("HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"v\"\r\n\r\n");
  server_.Answer(Reply("200 OK"));
  server_.Answer("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\nETag: \"v\"\r\n\r\n");
  server_.Answer(Reply("200 OK", "", "ETag: \"v\"\r\nPad: " + std::string(100'000, 'x') + "\r\n"));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Describe(Client()->Head("key").status()), "INTERNAL STORAGE_ERROR") << i;
  }
}

TEST_F(S3ClientTest, RangesMustBeTheOnesAskedFor) {
  const std::string version = "ETag: \"v1\"\r\n";
  const auto range = [](const std::string& bytes) {
    return "Content-Range: bytes " + bytes + "\r\n";
  };
  server_.Answer(Reply("206 Partial", "abc", version + range("10-12/99")));
  EXPECT_TRUE(Get(3).ok());
  EXPECT_THAT(server_.requests()[0], HasSubstr("range: bytes=10-12\r\n"));
  EXPECT_THAT(server_.requests()[0], HasSubstr("if-match: \"v1\"\r\n"));
  server_.Answer(Reply("206 Partial", "abc", version + range("0-2/99")));
  EXPECT_EQ(Describe(Get(3)), "INTERNAL STORAGE_ERROR");
  server_.Answer(Reply("206 Partial", "ab", version + range("10-12/99")));
  EXPECT_EQ(Describe(Get(3)), "INTERNAL STORAGE_ERROR");
  server_.Answer(Reply("206 Partial", std::string(1000, 'x'), version + range("10-12/99")));
  EXPECT_EQ(Describe(Get(3)), "INTERNAL STORAGE_ERROR");
  // The whole object from its beginning, where bytes from its middle were asked for.
  server_.Answer(Reply("200 OK", "abc", version));
  EXPECT_EQ(Describe(Get(3)), "INTERNAL STORAGE_ERROR");
  server_.Answer(Reply("206 Partial", "abc", "ETag: \"v2\"\r\n" + range("10-12/99")));
  EXPECT_EQ(Describe(Get(3)), "FAILED_PRECONDITION FILE_CHANGED");
  server_.Answer(ErrorReply("416 Range", "InvalidRange"));
  EXPECT_EQ(Describe(Get(3)), "OUT_OF_RANGE FILE_TRUNCATED");
}

TEST_F(S3ClientTest, AnAnswerThatBreaksOffIsFetchedAgain) {
  server_.Answer(
      "HTTP/1.1 206 Partial\r\nContent-Length: 3\r\nETag: \"v1\"\r\n"
      "Content-Range: bytes 10-12/99\r\n\r\na");
  server_.Answer(Reply("206 Partial", "abc", "ETag: \"v1\"\r\nContent-Range: bytes 10-12/99\r\n"));
  EXPECT_TRUE(Get(3).ok());
}

TEST_F(S3ClientTest, ACopyCountsOnlyWithItsResult) {
  const auto client = Client();
  // Stores begin with "200", and say later that it went wrong.
  server_.Answer(ErrorReply("200 OK", "InternalError"));
  server_.Answer(Reply("200 OK", "   <CopyObjectResult><ETag>"));
  server_.Answer(Reply("200 OK", "  <CopyObjectResult><ETag>x</ETag></CopyObjectResult>"));
  EXPECT_TRUE(client->Copy("from", "\"v1\"", "to").ok());
  EXPECT_THAT(server_.requests()[0], HasSubstr("x-amz-copy-source: /models/from\r\n"));
  EXPECT_THAT(server_.requests()[0], HasSubstr("x-amz-copy-source-if-match: \"v1\"\r\n"));
  server_.Answer(ErrorReply("200 OK", "AccessDenied"));
  EXPECT_EQ(Describe(client->Copy("from", "\"v1\"", "to")), "PERMISSION_DENIED FILE_ACCESS");
}

TEST_F(S3ClientTest, HostileListsAreRefused) {
  const auto list = [&](const std::string& body) {
    server_.Answer(Reply("200 OK", body));
    return Client()->List("", "token", 1000);
  };
  EXPECT_EQ(Describe(list("not XML").status()), "INTERNAL STORAGE_ERROR");
  EXPECT_EQ(Describe(list("<html></html>").status()), "INTERNAL STORAGE_ERROR");
  EXPECT_EQ(Describe(list(std::string((16 << 20) + 1, ' ')).status()), "INTERNAL STORAGE_ERROR");
  const std::string truncated = "<ListBucketResult><IsTruncated>true</IsTruncated>";
  EXPECT_FALSE(list(truncated + "</ListBucketResult>").ok());
  // It would go on for ever.
  EXPECT_FALSE(list(truncated + "<NextContinuationToken>token</NextContinuationToken>"
                                "</ListBucketResult>")
                   .ok());
  const auto page = list(truncated +
                         "<Contents><Key>a&amp;b</Key></Contents><NextContinuationToken>t2"
                         "</NextContinuationToken></ListBucketResult>");
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(page->keys, ElementsAre("a&b"));
  EXPECT_EQ(page->next, "t2");
}

TEST_F(S3ClientTest, NamesThatAreNoneOfTheFolderAreLeftOut) {
  options_.prefix = "p";
  std::string body = "<ListBucketResult><IsTruncated>false</IsTruncated>";
  for (const char* key : {"p/d/", "p/d/b", "q/x", "p/d/../x", "p/d/..", "p/d/a", "p/d/c/e"}) {
    body += std::string("<Contents><Key>") + key + "</Key></Contents>";
  }
  body += "<CommonPrefixes><Prefix>p/d/sub/</Prefix></CommonPrefixes></ListBucketResult>";
  server_.Answer(Reply("200 OK", body));
  EXPECT_THAT(OpenS3FileSystem(options_).value()->List("d").value(), ElementsAre("a", "b", "sub"));
}

TEST_F(S3ClientTest, ReadsInSequenceAreFewRequests) {
  std::string object(12'000'000, '\0');
  for (size_t i = 0; i < object.size(); ++i) object[i] = static_cast<char>(i * i >> 7);
  server_.Hold(object);
  const auto files = OpenS3FileSystem(options_).value();
  const auto file = files->Open("key").value();
  std::string out(1000, '\0');
  for (size_t offset = 0; offset < object.size(); offset += out.size()) {
    ASSERT_TRUE(file->ReadAt(offset, out.data(), out.size()).ok());
    ASSERT_TRUE(out == std::string_view(object).substr(offset, out.size())) << offset;
  }
  // Of 256 KiB, 512 KiB, 1, 2, 4 MiB and the rest, after the first one for the size.
  EXPECT_EQ(server_.requests().size(), 7u);
}

TEST_F(S3ClientTest, ReadersInSequenceDoNotDisturbEachOther) {
  server_.Hold(std::string(6'000'000, 'x'));
  const auto files = OpenS3FileSystem(options_).value();
  const auto file = files->Open("key").value();
  std::string out(1000, '\0');
  for (size_t step = 0; step < 1'000'000; step += out.size()) {
    for (const size_t begin : {0, 2'000'000, 4'000'000}) {
      ASSERT_TRUE(file->ReadAt(begin + step, out.data(), out.size()).ok());
    }
  }
  EXPECT_EQ(server_.requests().size(), 10u);
}

TEST_F(S3ClientTest, LongReadsGoPastTheReadAhead) {
  options_.read_ahead_bytes = 1000;
  const std::string object = std::string(500, 'a') + std::string(5000, 'b');
  server_.Hold(object);
  const auto files = OpenS3FileSystem(options_).value();
  const auto file = files->Open("key").value();
  std::string out(5400, '\0');
  ASSERT_TRUE(file->ReadAt(0, out.data(), 10).ok());
  ASSERT_TRUE(file->ReadAt(100, out.data(), out.size()).ok());
  EXPECT_EQ(out, object.substr(100));
  ASSERT_EQ(server_.requests().size(), 3u);
  EXPECT_THAT(server_.requests()[2], HasSubstr("range: bytes=1000-5499\r\n"));
}

TEST_F(S3ClientTest, AFailedUploadIsEnded) {
  options_.part_bytes = 5 << 20;
  Spool body(0, ::testing::TempDir());
  ASSERT_TRUE(body.Append(std::string(options_.part_bytes + 1, 'x')).ok());
  const std::string started = Reply("200 OK",
                                    "<InitiateMultipartUploadResult><UploadId>u/1</UploadId>"
                                    "</InitiateMultipartUploadResult>");
  server_.Answer(started);
  server_.Answer(Reply("200 OK", "", "ETag: \"p1\"\r\n"));
  server_.Answer(ErrorReply("403 Forbidden", "AccessDenied"));
  server_.Answer(Reply("204 No Content"));
  EXPECT_EQ(Describe(UploadObject(*Client(), "key", body)), "PERMISSION_DENIED FILE_ACCESS");
  ASSERT_EQ(server_.requests().size(), 4u);
  EXPECT_THAT(server_.requests()[3], StartsWith("DELETE /models/key?uploadId=u%2F1 HTTP/1.1"));
}

TEST_F(S3ClientTest, AnUploadWhoseEndIsUnknownIsSentOnceMore) {
  options_.part_bytes = 5 << 20;
  Spool body(0, ::testing::TempDir());
  ASSERT_TRUE(body.Append(std::string(options_.part_bytes + 1, 'x')).ok());
  const auto script = [&](const std::vector<std::string>& ends) {
    server_.Answer(Reply("200 OK",
                         "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                         "</InitiateMultipartUploadResult>"));
    server_.Answer(Reply("200 OK", "", "ETag: \"p1\"\r\n"));
    server_.Answer(Reply("200 OK", "", "ETag: \"p2\"\r\n"));
    for (const std::string& end : ends) server_.Answer(end);
  };
  // The store completes it, but the answer is lost.
  script({"", ErrorReply("404 Not Found", "NoSuchUpload")});
  script({Reply("200 OK", "<CompleteMultipartUploadResult/>")});
  const absl::Status status = UploadObject(*Client(), "key", body);
  EXPECT_TRUE(status.ok()) << base::MessageOf(status);
  ASSERT_EQ(server_.requests().size(), 9u);
  EXPECT_THAT(server_.requests()[2],
              HasSubstr("x-amz-content-sha256: " + io::Sha256Hex("x") + "\r\n"));
  EXPECT_THAT(server_.requests()[8],
              HasSubstr("<Part><PartNumber>2</PartNumber><ETag>&quot;p2&quot;</ETag></Part>"));
}

TEST_F(S3ClientTest, AFileThatCannotBeKeptIsNotStored) {
  options_.memory_spool_bytes = 2;
  options_.spool_directory = "/nonexistent";
  const auto files = OpenS3FileSystem(options_).value();
  const auto file = files->Create("a").value();
  EXPECT_TRUE(file->Append("ab").ok());
  EXPECT_EQ(base::ReasonOf(file->Append("c")), "FILE_NOT_FOUND");
  EXPECT_FALSE(file->Append("").ok());
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_FALSE(file->Close().ok());
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(S3ClientTest, PathsThatLeaveThePrefixAreRefused) {
  const auto files = OpenS3FileSystem(options_).value();
  for (const std::string path : {"", ".", "/", "..", "a/../../b", "a\nb", "a\xff", "a/.."}) {
    EXPECT_EQ(base::ReasonOf(files->Create(path).status()), "INVALID_NAME") << path;
    EXPECT_EQ(base::ReasonOf(files->Open(path).status()), "INVALID_NAME") << path;
    EXPECT_EQ(base::ReasonOf(files->Remove(path)), "INVALID_NAME") << path;
    EXPECT_EQ(base::ReasonOf(files->Rename("a", path)), "INVALID_NAME") << path;
  }
  EXPECT_EQ(base::ReasonOf(files->List("../a").status()), "INVALID_NAME");
  EXPECT_EQ(base::ReasonOf(files->CreateDirectories("a/..")), "INVALID_NAME");
  EXPECT_EQ(base::ReasonOf(files->Open(std::string(1025, 'a')).status()), "INVALID_NAME");
  EXPECT_TRUE(server_.requests().empty());
}

}  // namespace
}  // namespace espalier::server::object_store
