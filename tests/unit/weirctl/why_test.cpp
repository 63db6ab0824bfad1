#include "weirctl/why.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "weirctl/views.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;

WhyFacts all_is_well() {
  WhyFacts facts;
  facts.pod = json::parse(R"({"namespace": "default", "name": "client", "state": "enrolled", "reason": ""})");
  facts.config = json::parse(R"({"excluded_ports": [9090]})");
  facts.service = json::parse(R"({"namespace": "default", "name": "greeter", "vips": ["10.96.0.10"], "ports": [
    {"port": 50051, "protocol": "grpc", "mode": "l7", "diverted_mode": "l7", "reason": "port name grpc",
     "cluster": {"endpoints": [{}]}},
    {"port": 9090, "protocol": "grpc", "mode": "l7", "diverted_mode": "l7", "reason": "", "cluster": null},
    {"port": 3306, "protocol": "mysql", "mode": "none", "diverted_mode": "none", "reason": "port name mysql",
     "cluster": null},
    {"port": 8080, "protocol": "unknown", "mode": "detect", "diverted_mode": "none", "reason": "nothing declared",
     "cluster": {"endpoints": []}},
    {"port": 8081, "protocol": "unknown", "mode": "detect", "diverted_mode": "none", "reason": "nothing declared",
     "cluster": {"endpoints": [{}]}}]})");
  facts.port = 50051;
  facts.pod_row = json::parse(R"({"brake": false, "observe": false})");
  facts.service_rows = json::parse(R"([{"address": "10.96.0.10:50051", "brake": false}])");
  facts.verdicts = json::array();
  return facts;
}

struct Case {
  const char* code;
  std::function<void(WhyFacts&)> change;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.code; }

class Why : public testing::TestWithParam<Case> {};

TEST_P(Why, GivesTheOneReason) {
  WhyFacts facts = all_is_well();
  GetParam().change(facts);
  const json verdict = why(facts);
  EXPECT_EQ(verdict["code"], GetParam().code);
  EXPECT_FALSE(verdict["diverted"].get<bool>());
  EXPECT_FALSE(verdict["reason"].get<std::string>().empty());
}

const auto pod_state = [](const char* state) { return [state](WhyFacts& f) { f.pod["state"] = state; }; };
const auto port = [](uint16_t number) { return [number](WhyFacts& f) { f.port = number; }; };
const auto learned = [](uint64_t sample_every) {
  return [sample_every](WhyFacts& f) {
    f.verdicts = {{{"address", "10.96.0.10:50051"},
                   {"expires_in_seconds", 42.0},
                   {"connections", 5},
                   {"sample_every", sample_every}}};
  };
};

INSTANTIATE_TEST_SUITE_P(
    Reasons, Why,
    testing::Values(Case{"not_enrolled", pod_state("disabled")}, Case{"refused", pod_state("refused")},
                    Case{"enrolment_failed", pod_state("failed")}, Case{"waiting", pod_state("waiting")},
                    Case{"headless", [](WhyFacts& f) { f.service["vips"] = json::array(); }}, Case{"no_port", port(1)},
                    Case{"not_grpc", port(3306)}, Case{"no_endpoints", port(8080)}, Case{"undeclared", port(8081)},
                    Case{"excluded", port(9090)}, Case{"brake", [](WhyFacts& f) { f.node_brake = true; }},
                    Case{"brake", [](WhyFacts& f) { f.pod_row["brake"] = true; }},
                    Case{"brake", [](WhyFacts& f) { f.service_rows[0]["brake"] = true; }},
                    Case{"observe", [](WhyFacts& f) { f.pod_row["observe"] = true; }},
                    Case{"no_row", [](WhyFacts& f) { f.pod_row = nullptr; }},
                    Case{"no_row", [](WhyFacts& f) { f.service_rows = json::array(); }}, Case{"learned", learned(64)},
                    Case{"learned", learned(0)},
                    // The brake is what an operator has done, and comes first.
                    Case{"brake",
                         [](WhyFacts& f) {
                           learned(64)(f);
                           f.node_brake = true;
                         }},
                    // The pod's own state comes before anything about the service.
                    Case{"refused", [](WhyFacts& f) {
                           f.pod["state"] = "refused";
                           f.port = 3306;
                         }}));

TEST(WhyVerdict, WhenNothingSpeaksAgainstItItIsDiverted) {
  const json verdict = why(all_is_well());
  EXPECT_TRUE(verdict["diverted"].get<bool>());
  EXPECT_THAT(render_why(verdict, false, false),
              testing::StartsWith(
                  "default/client -> default/greeter:50051: diverted (l7: every RPC is balanced; port name grpc)\n"));
}

TEST(WhyVerdict, SaysForHowLongWhatWasLearnedHoldsAndHowItIsForgotten) {
  WhyFacts facts = all_is_well();
  learned(64)(facts);
  EXPECT_EQ(render_why(why(facts), false, false),
            "default/client -> default/greeter:50051: not diverted: the pod's connections to 10.96.0.10:50051 were not "
            "HTTP/2: the next ones pass by the agent for 42s, but for one in 64; `weirctl verdicts clear --pod "
            "default/client --service default/greeter:50051` forgets that\n");
  learned(1)(facts);
  EXPECT_TRUE(why(facts)["diverted"].get<bool>()) << "every connection is a sample";
}

TEST(WhyVerdict, TellsOfConnectionsThatAreOlder) {
  WhyFacts facts = all_is_well();
  EXPECT_THAT(render_why(why(facts), false, false), testing::Not(testing::HasSubstr("opened before")));
  facts.unmanaged = 2;
  EXPECT_THAT(render_why(why(facts), false, false),
              testing::HasSubstr("opened before, which go past weir until the client dials again: 2"));
}

TEST(WhyVerdict, TellsOfConnectionsThatWereSomethingElse) {
  WhyFacts facts = all_is_well();
  EXPECT_THAT(render_why(why(facts), false, false), testing::Not(testing::HasSubstr("passed as TCP")));
  facts.service["ports"][0]["misdeclared_connections"] = 14;
  const std::string said = render_why(why(facts), false, false);
  EXPECT_THAT(said, testing::HasSubstr("diverted (l7: every RPC of what is HTTP/2 is balanced, anything else relayed; "
                                       "port name grpc)\n"));
  EXPECT_THAT(said, testing::HasSubstr("passed as TCP (of all pods here): 14 (weir_misdeclared_connections_total)\n"));
}

TEST(WhyVerdict, IsOneLineWhenItIsNot) {
  WhyFacts facts = all_is_well();
  facts.port = 3306;
  EXPECT_EQ(
      render_why(why(facts), false, false),
      "default/client -> default/greeter:3306: not diverted: the port is not declared to carry HTTP/2 (mysql: port "
      "name mysql)\n");
}

}  // namespace
}  // namespace weir::weirctl
