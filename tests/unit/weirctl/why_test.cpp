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
                    Case{"no_row", [](WhyFacts& f) { f.service_rows = json::array(); }},
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

TEST(WhyVerdict, IsOneLineWhenItIsNot) {
  WhyFacts facts = all_is_well();
  facts.port = 3306;
  EXPECT_EQ(render_why(why(facts), false, false),
            "default/client -> default/greeter:3306: not diverted: the port does not carry HTTP/2 (mysql: port name "
            "mysql)\n");
}

}  // namespace
}  // namespace weir::weirctl
