#include "server/object_store/s3_xml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace espalier::server::object_store {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Read(std::string_view document) {
  std::vector<std::string> found;
  const bool read = ReadXml(document, [&](std::string_view path, const std::string& text) {
    found.push_back(std::string(path) + "=" + text);
  });
  if (!read) found.emplace_back("unreadable");
  return found;
}

bool IsReadable(std::string_view document) {
  return ReadXml(document, [](std::string_view, const std::string&) {});
}

TEST(S3XmlTest, TextsComeWithTheirPaths) {
  EXPECT_THAT(Read("<?xml version=\"1.0\"?>\n<L xmlns=\"http://x/>\"><C><Key>a/b</Key></C>"
                   "<!-- <Key>no</Key> --><C><Key>c</Key></C><Empty/></L>\n"),
              ElementsAre("L/C/Key=a/b", "L/C=", "L/C/Key=c", "L/C=", "L/Empty=", "L="));
}

TEST(S3XmlTest, EntitiesAndSectionsAreDecoded) {
  EXPECT_THAT(Read("<a>&lt;&amp;&gt;&quot;&apos;&#65;&#xe4;&#x1F600;</a>"),
              ElementsAre("a=<&>\"'A\xc3\xa4\xf0\x9f\x98\x80"));
  EXPECT_THAT(Read("<a>x<![CDATA[<b>&amp;]]>y</a>"), ElementsAre("a=x<b>&amp;y"));
}

TEST(S3XmlTest, PrefixesOfNamesDoNotCount) {
  EXPECT_THAT(Read("<s3:a><s3:b>1</s3:b ></s3:a>"), ElementsAre("a/b=1", "a="));
}

TEST(S3XmlTest, WhatIsNoWholeDocumentIsRefused) {
  for (const std::string document : {"",
                                     "  ",
                                     "a",
                                     "<",
                                     "<a",
                                     "<a>",
                                     "<a></b>",
                                     "</a>",
                                     "<a></a><b></b>",
                                     "<a>&nbsp;</a>",
                                     "<a>&amp</a>",
                                     "<a>&#0;</a>",
                                     "<a>&#xd800;</a>",
                                     "<a>&#x110000;</a>",
                                     "<a>&#99999999999;</a>",
                                     "<a>&#;</a>",
                                     "<a b=\"</a>",
                                     "<a><![CDATA[</a>",
                                     "<!-- ",
                                     "<?xml",
                                     "<>x</>",
                                     "<a></a>tail",
                                     "<![CDATA[x]]><a/>",
                                     "<a/b></a/b>",
                                     "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>"}) {
    EXPECT_FALSE(IsReadable(document)) << document;
  }
}

TEST(S3XmlTest, DepthAndNamesAreBounded) {
  const auto nested = [](int depth) {
    std::string document;
    for (int i = 0; i < depth; ++i) document += "<a>";
    for (int i = 0; i < depth; ++i) document += "</a>";
    return document;
  };
  EXPECT_TRUE(IsReadable(nested(16)));
  EXPECT_FALSE(IsReadable(nested(17)));
  EXPECT_FALSE(IsReadable("<" + std::string(65, 'a') + "/>"));
}

TEST(S3XmlTest, EveryFrontOfADocumentIsRefusedOrReadWithoutHarm) {
  const std::string document =
      "<L a='>'><C><Key>a&amp;b</Key></C><!-- x --><T><![CDATA[c]]></T><E/></L>";
  for (size_t size = 0; size < document.size(); ++size) {
    EXPECT_FALSE(IsReadable(document.substr(0, size))) << size;
  }
  EXPECT_TRUE(IsReadable(document));
}

TEST(S3XmlTest, EscapedTextIsReadBack) {
  const std::string text = "\"a\" <b> & 'c'";
  EXPECT_THAT(Read("<a>" + EscapeXml(text) + "</a>"), ElementsAre("a=" + text));
}

}  // namespace
}  // namespace espalier::server::object_store
