#include <gtest/gtest.h>

#include <string>

#include "common/base/rng.h"
#include "common/io/crc32c.h"
#include "common/io/sha256.h"

namespace espalier::io {
namespace {

std::string RandomBytes(size_t size) {
  base::Rng rng(7);
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(rng.Below(256));
  }
  return bytes;
}

TEST(Sha256Test, GivesThePublishedDigests) {
  // FIPS 180-2, appendix B.
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWholeAndTheObjectStartsAnew) {
  const std::string bytes = RandomBytes(1000);
  Sha256 digest;
  digest.Update(bytes.substr(0, 63));
  digest.Update(bytes.substr(63));
  EXPECT_EQ(digest.HexDigest(), Sha256Hex(bytes));
  EXPECT_EQ(digest.HexDigest(), Sha256Hex(""));
}

TEST(Sha256Test, FormOfADigestIsRecognised) {
  EXPECT_TRUE(IsSha256Hex(Sha256Hex("x")));
  EXPECT_FALSE(IsSha256Hex("abc"));
  EXPECT_FALSE(IsSha256Hex(std::string(64, 'A')));
  EXPECT_FALSE(IsSha256Hex(std::string(64, '/')));
}

TEST(Crc32cTest, GivesThePublishedValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  // RFC 3720, B.4.
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, FastAndPortableFormsAgreeAtAllLengthsAndOffsets) {
  const std::string bytes = RandomBytes(40'000);
  for (size_t size = 0; size < 300; ++size) {
    const std::string_view part = std::string_view(bytes).substr(size % 9, size);
    ASSERT_EQ(Crc32c(part), ExtendCrc32cPortable(0, part)) << size;
  }
  // Around multiples of the three lanes of 2,048 bytes.
  for (const size_t size : {6143u, 6144u, 6145u, 12287u, 12288u, 18440u, 39'991u}) {
    const std::string_view part = std::string_view(bytes).substr(1, size);
    ASSERT_EQ(Crc32c(part), ExtendCrc32cPortable(0, part)) << size;
  }
}

TEST(Crc32cTest, ExtendingIsTheChecksumOfTheConcatenation) {
  const std::string bytes = RandomBytes(20'000);
  const std::string_view view = bytes;
  for (const size_t cut : {0u, 1u, 7u, 6144u, 10'001u, 20'000u}) {
    EXPECT_EQ(ExtendCrc32c(Crc32c(view.substr(0, cut)), view.substr(cut)), Crc32c(view)) << cut;
  }
}

}  // namespace
}  // namespace espalier::io
