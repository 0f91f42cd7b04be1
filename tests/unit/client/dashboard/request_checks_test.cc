#include "client/dashboard/request_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

constexpr char kToken[] = "a-token-that-nobody-knows";

bool Allows(const std::string& listen, const std::vector<std::string>& names, const char* host) {
  const auto rules = HostRules::Make(listen, names);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules.ok() && rules->Allows(host);
}

Request Action() {
  Request request;
  request.method = "POST";
  request.headers = {{"host", "127.0.0.1:7080"},
                     {"origin", "http://127.0.0.1:7080"},
                     {"sec-fetch-site", "same-origin"},
                     {"content-type", "application/json"},
                     {"x-espalier-csrf", kToken}};
  return request;
}

TEST(HostRulesTest, LoopbackHasItsThreeNames) {
  for (const char* host : {"127.0.0.1:7080", "localhost:7080", "LocalHost:7080", "[::1]:7080"}) {
    EXPECT_TRUE(Allows("127.0.0.1:7080", {}, host)) << host;
  }
  EXPECT_TRUE(Allows("127.0.0.2:7080", {}, "127.0.0.2:7080"));
}

TEST(HostRulesTest, NamesThatOthersMayPointHereAreNotOurs) {
  for (const char* host :
       {"evil.example:7080", "evil.example", "", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:7081",
        "localhost.evil.example:7080", "127.0.0.1.evil.example:7080", "127.0.0.1:7080:7080",
        "user@127.0.0.1:7080", "127.0.0.1:7080/", "[::1", "127.0.0.1:7080, evil.example"}) {
    EXPECT_FALSE(Allows("127.0.0.1:7080", {}, host)) << host;
  }
}

TEST(HostRulesTest, TheUsualPortMayBeLeftOut) {
  EXPECT_TRUE(Allows("127.0.0.1:80", {}, "localhost"));
  EXPECT_TRUE(Allows("127.0.0.1:80", {}, "localhost:80"));
  EXPECT_FALSE(Allows("127.0.0.1:8080", {}, "localhost"));
}

TEST(HostRulesTest, AllAddressesAreKnownAsNumbers) {
  EXPECT_TRUE(Allows("0.0.0.0:7080", {}, "192.168.1.5:7080"));
  EXPECT_TRUE(Allows("[::]:7080", {}, "[2001:db8::1]:7080"));
  EXPECT_FALSE(Allows("0.0.0.0:7080", {}, "192.168.1.5:9"));
  EXPECT_FALSE(Allows("0.0.0.0:7080", {}, "evil.example:7080"));
}

TEST(HostRulesTest, NamesOfProxiesAreAllowedWithAnyPortOrTheirOwn) {
  const std::vector<std::string> names = {"Train.example.org", "other.example:8443"};
  EXPECT_TRUE(Allows("127.0.0.1:7080", names, "train.example.org"));
  EXPECT_TRUE(Allows("127.0.0.1:7080", names, "train.example.org:443"));
  EXPECT_TRUE(Allows("127.0.0.1:7080", names, "other.example:8443"));
  EXPECT_FALSE(Allows("127.0.0.1:7080", names, "other.example"));
  EXPECT_FALSE(Allows("127.0.0.1:7080", names, "a.train.example.org"));
}

TEST(HostRulesTest, WhatNoHostCanBeIsAnError) {
  for (const char* name : {"", "https://a.example", "a/b", "a:b", "a:99999"}) {
    EXPECT_EQ(base::ReasonOf(HostRules::Make("127.0.0.1:7080", {name}).status()), "INVALID_HOST")
        << name;
  }
}

TEST(CrossSiteTest, OnlyOtherSitesAreRefused) {
  Request request;
  EXPECT_EQ(CrossSiteFault(request), std::nullopt);
  for (const char* site : {"same-origin", "none"}) {
    request.headers["sec-fetch-site"] = site;
    EXPECT_EQ(CrossSiteFault(request), std::nullopt) << site;
  }
  for (const char* site : {"cross-site", "same-site", "same-origin, cross-site"}) {
    request.headers["sec-fetch-site"] = site;
    EXPECT_THAT(CrossSiteFault(request), Optional(HasSubstr("another site"))) << site;
  }
}

TEST(ActionTest, OfThePageItselfIsTaken) {
  EXPECT_EQ(ActionFault(Action(), kToken), std::nullopt);
  Request request = Action();
  request.headers.erase("sec-fetch-site");
  request.headers["content-type"] = "Application/JSON; charset=utf-8";
  EXPECT_EQ(ActionFault(request, kToken), std::nullopt);
  // A proxy with TLS in front, at the usual port.
  request.headers["host"] = "train.example.org";
  for (const char* origin : {"https://train.example.org", "https://Train.example.org:443"}) {
    request.headers["origin"] = origin;
    EXPECT_EQ(ActionFault(request, kToken), std::nullopt) << origin;
  }
}

TEST(ActionTest, OneHeaderAmissIsEnoughToRefuse) {
  const struct {
    const char* header;
    const char* value;
    const char* why;
  } kCases[] = {
      {"origin", "http://evil.example", "origin"},
      {"origin", "null", "origin"},
      {"origin", "http://127.0.0.1:7081", "origin"},
      {"origin", "ftp://127.0.0.1:7080", "origin"},
      {"sec-fetch-site", "cross-site", "Sec-Fetch-Site"},
      {"sec-fetch-site", "none", "Sec-Fetch-Site"},
      {"x-espalier-csrf", "", "X-Espalier-CSRF"},
      {"x-espalier-csrf", "a-token-that-nobody-knowt", "X-Espalier-CSRF"},
      {"x-espalier-csrf", "a-token", "X-Espalier-CSRF"},
      {"content-type", "text/plain", "application/json"},
      {"content-type", "application/x-www-form-urlencoded", "application/json"},
  };
  for (const auto& c : kCases) {
    Request request = Action();
    request.headers[c.header] = c.value;
    EXPECT_THAT(ActionFault(request, kToken), Optional(HasSubstr(c.why))) << c.header << c.value;
  }
}

TEST(ActionTest, WithoutAWordOnItsOriginItIsRefused) {
  Request request = Action();
  request.headers.erase("origin");
  request.headers.erase("sec-fetch-site");
  EXPECT_THAT(ActionFault(request, kToken), Optional(HasSubstr("found neither")));
}

TEST(CsrfTokenTest, EachIsAnother) {
  std::set<std::string> tokens;
  for (int i = 0; i < 10; ++i) tokens.insert(MakeCsrfToken());
  EXPECT_EQ(tokens.size(), 10U);
  EXPECT_GE(tokens.begin()->size(), 43U);
}

TEST(SecurityHeadersTest, NothingInlineAndNothingFromElsewhere) {
  const auto headers = SecurityHeaders();
  const auto policy = std::find_if(headers.begin(), headers.end(), [](const auto& header) {
    return header.first == "Content-Security-Policy";
  });
  ASSERT_NE(policy, headers.end());
  EXPECT_THAT(policy->second, HasSubstr("default-src 'none'; script-src 'self'; style-src 'self'"));
  EXPECT_EQ(policy->second.find("unsafe"), std::string::npos);
}

}  // namespace
}  // namespace espalier::dashboard
