#include "common/pki/key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/common/pki/chain.h"

namespace espalier::pki {
namespace {

TEST(KeyTest, KeysAreRandomAndOfP256) {
  const std::string key = NewKey();
  EXPECT_TRUE(key.starts_with("-----BEGIN PRIVATE KEY-----"));
  EXPECT_NE(key, NewKey());
  EXPECT_FALSE(IsEncrypted(key));
  EXPECT_EQ(EVP_PKEY_get_bits(ReadKey(key)->get()), 256);
}

TEST(KeyTest, EncryptedKeyOpensWithItsPassphraseAlone) {
  const std::string key = NewKey();
  const std::string encrypted = EncryptKey(key, "correct horse").value();
  EXPECT_TRUE(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
  EXPECT_TRUE(IsEncrypted(encrypted));
  EXPECT_EQ(DecryptKey(encrypted, "correct horse").value(), key);
  for (const char* wrong : {"correct horse ", "Correct horse", "x"}) {
    EXPECT_EQ(base::ReasonOf(DecryptKey(encrypted, wrong).status()), "TLS_KEY_ENCRYPTED");
  }
  EXPECT_NE(EncryptKey(key, "correct horse").value(), encrypted);
  EXPECT_EQ(base::ReasonOf(NewSigningRequest(encrypted).status()), "TLS_KEY_ENCRYPTED");
}

TEST(KeyTest, KeysAreStretchedForALongTime) {
  const std::string encrypted = EncryptKey(NewKey(), "secret").value();
  const std::vector<PemBlock> blocks = BlocksOf(encrypted);
  // 600,000 as DER has it.
  EXPECT_NE(blocks.at(0).bytes.find(std::string("\x02\x03\x09\x27\xc0", 5)), std::string::npos);
}

TEST(KeyTest, PassphrasesHaveALength) {
  const std::string key = NewKey();
  EXPECT_EQ(base::ReasonOf(EncryptKey(key, "").status()), "PASSPHRASE_INVALID");
  EXPECT_EQ(base::ReasonOf(EncryptKey(key, std::string(1001, 'a')).status()), "PASSPHRASE_INVALID");
  const std::string longest(1000, 'a');
  EXPECT_EQ(DecryptKey(EncryptKey(key, longest).value(), longest).value(), key);
  const std::string binary("a\0b\xff", 4);
  EXPECT_EQ(DecryptKey(EncryptKey(key, binary).value(), binary).value(), key);
}

TEST(KeyTest, KeysEncryptedByOlderToolsAreOpened) {
  const KeyPtr key = ReadKey(NewKey()).value();
  const BioPtr bio = Writer();
  unsigned char passphrase[] = "secret";
  PEM_write_bio_PrivateKey_traditional(bio.get(), key.get(), EVP_aes_128_cbc(), passphrase, 6,
                                       nullptr, nullptr);
  const std::string old = Written(*bio);
  EXPECT_TRUE(IsEncrypted(old));
  EXPECT_EQ(DecryptKey(old, "secret").value(), PemOfKey(key));
  EXPECT_EQ(base::ReasonOf(DecryptKey(old, "other").status()), "TLS_KEY_ENCRYPTED");
}

TEST(KeyTest, TextsThatAreNoKeyAreRefusedWithoutShowingThem) {
  std::string damaged = NewKey();
  const std::string secret = damaged.substr(60, 20);
  damaged[50] = '!';
  for (const std::string& text : {std::string(), std::string("hello"), damaged,
                                  Made().root.certificate, std::string(5'000'000, 'a')}) {
    for (const auto& status :
         {DecryptKey(text, "secret").status(), EncryptKey(text, "secret").status(),
          NewSigningRequest(text).status()}) {
      EXPECT_EQ(base::ReasonOf(status), "TLS_FILE_UNREADABLE");
      EXPECT_EQ(base::MessageOf(status).find(secret), std::string::npos);
    }
    EXPECT_FALSE(IsEncrypted(text));
  }
}

}  // namespace
}  // namespace espalier::pki
