// Transfers with a coordinator that damages, cuts and refuses what it is told to.
#include "worker/session/transfer.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <deque>
#include <set>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/rpc/status.h"
#include "common/wire/blob.h"
#include "common/wire/proto_time.h"

namespace espalier::worker::session {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

constexpr size_t kChunk = 100;

// How one Fetch goes wrong.
enum class Harm { kNone, kFlipInSecondChunk, kOtherBlob, kEndsEarly, kMissingChunk, kBroken };

class Coordinator final : public v1::WorkerService::Service {
 public:
  std::string blob;
  std::deque<Harm> harms;                // of the next fetches; then none
  Harm always = Harm::kNone;             // of all others
  std::vector<uint64_t> offsets;         // that were asked for
  std::deque<absl::Status> answers;      // to the next uploads; then OK
  absl::Status last_answer;              // to all others
  std::vector<v1::PartialHeader> heads;  // of the uploads
  std::vector<std::string> bodies;
  std::deque<std::string> upload_offsets;  // that the next uploads are told; then none

  grpc::Status Fetch(grpc::ServerContext*, const v1::FetchRequest* request,
                     grpc::ServerWriter<v1::Chunk>* writer) override {
    offsets.push_back(request->offset());
    const Harm harm = Next(harms, always);
    if (harm == Harm::kBroken) return {grpc::StatusCode::INTERNAL, "RST_STREAM"};
    const std::string sent = harm == Harm::kOtherBlob ? std::string(blob.size(), 'x') : blob;
    int index = 0;
    for (uint64_t at = request->offset(); at < sent.size(); at += kChunk, ++index) {
      v1::Chunk chunk = wire::ChunkAt(sent, at, kChunk);
      const bool second = at == kChunk;
      if (harm == Harm::kFlipInSecondChunk && second) chunk.mutable_data()->at(7) ^= 1;
      if (harm == Harm::kMissingChunk && second) continue;
      if (harm == Harm::kEndsEarly && index == 1) break;
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }

  grpc::Status Submit(grpc::ServerContext* context, grpc::ServerReader<v1::SubmitRequest>* reader,
                      v1::SubmitResponse*) override {
    v1::SubmitRequest request;
    std::string body;
    while (reader->Read(&request)) {
      if (request.has_header()) {
        heads.push_back(request.header());
        const std::string offset = Next(upload_offsets, std::string());
        if (!offset.empty()) context->AddInitialMetadata(wire::kUploadOffset, offset);
        reader->SendInitialMetadata();
      }
      body += request.chunk().data();
    }
    bodies.push_back(body);
    return rpc::ToGrpc(Next(answers, last_answer));
  }

 private:
  template <typename T>
  static T Next(std::deque<T>& list, const T& otherwise) {
    if (list.empty()) return otherwise;
    T next = list.front();
    list.pop_front();
    return next;
  }
};

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    transfer_ = std::make_unique<Transfer>(metrics_);
    transfer_->Use(v1::WorkerService::NewStub(server_->InProcessChannel({})));
    v1::Welcome welcome;
    welcome.set_chunk_bytes(kChunk);
    welcome.set_inline_bytes(10);
    wire::SetDuration(absl::Minutes(1), welcome.mutable_transfer_timeout());
    transfer_->SetLimits(welcome);
    transfer_->BeginTask("jobs/a");
    for (int i = 0; i < 1000; ++i) coordinator_.blob += static_cast<char>(i % 251);
  }

  v1::BlobRef Ref() const {
    v1::BlobRef ref;
    ref.set_digest(io::Sha256Hex(coordinator_.blob));
    ref.set_size_bytes(coordinator_.blob.size());
    return ref;
  }

  std::set<std::string> UpdateIds() const {
    std::set<std::string> ids;
    for (const v1::PartialHeader& head : coordinator_.heads) ids.insert(head.update_id());
    return ids;
  }

  absl::Status Submit() { return transfer_->Submit({}, coordinator_.blob); }

  Coordinator coordinator_;
  metrics::Metrics metrics_{metrics::Role::kWorker};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Transfer> transfer_;
};

TEST_F(TransferTest, FetchGoesOnBehindTheLastGoodChunk) {
  coordinator_.harms = {Harm::kFlipInSecondChunk, Harm::kFlipInSecondChunk, Harm::kMissingChunk,
                        Harm::kNone};
  EXPECT_EQ(transfer_->Fetch(Ref()).value(), coordinator_.blob);
  EXPECT_THAT(coordinator_.offsets, ElementsAre(0, kChunk, kChunk, kChunk));
}

TEST_F(TransferTest, FetchThatEndsEarlyGoesOn) {
  coordinator_.always = Harm::kEndsEarly;  // one chunk a call: each is progress
  EXPECT_EQ(transfer_->Fetch(Ref()).value(), coordinator_.blob);
  EXPECT_THAT(coordinator_.offsets, SizeIs(10));
}

TEST_F(TransferTest, FetchBeginsAnewWhenTheWholeHasAnotherDigest) {
  coordinator_.harms = {Harm::kOtherBlob, Harm::kNone};
  EXPECT_EQ(transfer_->Fetch(Ref()).value(), coordinator_.blob);
  EXPECT_THAT(coordinator_.offsets, ElementsAre(0, 0));
}

TEST_F(TransferTest, FetchOutlivesCallsThatGrpcEnds) {
  coordinator_.harms = {Harm::kBroken, Harm::kEndsEarly, Harm::kBroken};
  EXPECT_EQ(transfer_->Fetch(Ref()).value(), coordinator_.blob);
}

TEST_F(TransferTest, FetchDamagedAgainAndAgainBlamesTheNetwork) {
  for (const Harm harm : {Harm::kFlipInSecondChunk, Harm::kOtherBlob}) {
    coordinator_.always = harm;
    coordinator_.offsets.clear();
    const absl::Status status = transfer_->Fetch(Ref()).status();
    EXPECT_EQ(base::ReasonOf(status), "TRANSFER_DAMAGED");
    EXPECT_THAT(base::MessageOf(status),
                AllOf(HasSubstr("4 times in a row"), HasSubstr("network")));
    EXPECT_THAT(coordinator_.offsets, SizeIs(4));
  }
}

TEST_F(TransferTest, BytesDamagedInsideATaskAreFetched) {
  v1::BlobRef ref = Ref();
  ref.set_inline_(coordinator_.blob);
  EXPECT_EQ(transfer_->Fetch(ref).value(), coordinator_.blob);
  EXPECT_THAT(coordinator_.offsets, SizeIs(0));
  ref.mutable_inline_()->at(3) ^= 1;
  EXPECT_EQ(transfer_->Fetch(ref).value(), coordinator_.blob);
  EXPECT_THAT(coordinator_.offsets, ElementsAre(0));
}

TEST_F(TransferTest, DamagedUploadIsRepeatedUnderOneUpdateId) {
  coordinator_.answers = {
      base::MakeError(absl::StatusCode::kDataLoss, "CHUNK_CORRUPT", ""),
      base::InvalidArgument("CHUNK_OUT_OF_ORDER", ""),
      base::MakeError(absl::StatusCode::kDataLoss, "BLOB_DIGEST_MISMATCH", ""),
      absl::OkStatus(),
  };
  EXPECT_EQ(Submit(), absl::OkStatus());
  EXPECT_THAT(coordinator_.bodies, AllOf(SizeIs(4), Each(coordinator_.blob)));
  EXPECT_THAT(UpdateIds(), ElementsAre(MatchesRegex("[0-9a-f]{32}")));
}

TEST_F(TransferTest, EveryUpdateHasAnIdOfItsOwn) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Submit(), absl::OkStatus());
  EXPECT_THAT(UpdateIds(), SizeIs(3));
}

TEST_F(TransferTest, UploadDamagedAgainAndAgainBlamesTheNetwork) {
  coordinator_.last_answer =
      base::MakeError(absl::StatusCode::kDataLoss, "CHUNK_CORRUPT", "CRC-32C");
  const absl::Status status = Submit();
  EXPECT_EQ(base::ReasonOf(status), "TRANSFER_DAMAGED");
  EXPECT_THAT(base::MessageOf(status),
              AllOf(HasSubstr("CHUNK_CORRUPT: CRC-32C"), HasSubstr("network")));
  EXPECT_THAT(coordinator_.bodies, SizeIs(4));
}

TEST_F(TransferTest, RefusalOfTheValuesStandsAtOnce) {
  coordinator_.last_answer = base::InvalidArgument("NON_FINITE", "");
  EXPECT_EQ(base::ReasonOf(Submit()), "NON_FINITE");
  EXPECT_THAT(coordinator_.bodies, SizeIs(1));
}

TEST_F(TransferTest, RefusalOfTheHeaderIsBelievedTheSecondTime) {
  const absl::Status late = base::MakeError(absl::StatusCode::kAborted, "LEASE_EXPIRED", "");
  coordinator_.answers = {late};
  EXPECT_EQ(Submit(), absl::OkStatus());
  coordinator_.last_answer = late;
  EXPECT_EQ(base::ReasonOf(Submit()), "LEASE_EXPIRED");
  EXPECT_THAT(coordinator_.bodies, SizeIs(4));
}

TEST_F(TransferTest, CancelEndsTheWaitForAnotherAttempt) {
  coordinator_.always = Harm::kFlipInSecondChunk;
  std::jthread canceller([this] { transfer_->Cancel(); });
  const absl::Status status = transfer_->Fetch(Ref()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_LE(coordinator_.offsets.size(), 4);
}

TEST_F(TransferTest, UploadBeginsWhereTheCoordinatorWantsIt) {
  const std::string body = std::string(250, 'a') + std::string(100, 'b');
  coordinator_.upload_offsets = {"250", "0", "350", "-1", "12 or so", "99999999999999999999"};
  for (const size_t begin : {250, 0, 0, 0, 0, 0}) {
    ASSERT_TRUE(transfer_->Submit({}, body).ok());
    EXPECT_EQ(coordinator_.bodies.back(), body.substr(begin));
    EXPECT_EQ(coordinator_.heads.back().body_bytes(), body.size());
  }
}

}  // namespace
}  // namespace espalier::worker::session
