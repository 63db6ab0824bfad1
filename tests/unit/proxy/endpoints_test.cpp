// Which of a cluster's endpoints a pod's calls may go to: IP families, session affinity.
#include "lab.h"

namespace weir::proxy::testing {
namespace {

struct EndpointsTest : Lab {
  std::vector<size_t> spread(const std::vector<Backend*>& servers, int calls) {
    Wire& app = client();
    for (int i = 0; i < calls; ++i) EXPECT_TRUE(until_complete(app.unary()));
    std::vector<size_t> got;
    for (Backend* server : servers) got.push_back(server->request_count());
    std::sort(got.begin(), got.end());
    return got;
  }
};

TEST_F(EndpointsTest, CallsStayInTheFamilyOfTheAddressThatWasDialled) {
  auto& server = backend();
  add_endpoint({*base::IpAddress::parse("::1"), closed_port()});
  start();
  EXPECT_EQ(spread({&server}, 30), (std::vector<size_t>{30}));
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x30"));
  EXPECT_EQ(stats().upstream_connections_total.value(), 1u) << "the other one was never tried";
}

TEST_F(EndpointsTest, AnotherFamilyIsBetterThanNone) {
  add_endpoint({*base::IpAddress::parse("::1"), closed_port()});
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UF,URX x1")) << recorded();
}

TEST_F(EndpointsTest, WithSessionAffinityAPodHasOneEndpointUntilThatGoes) {
  cluster.session_affinity = 10s;
  std::vector<Backend*> servers{&backend(), &backend(), &backend()};
  start();
  EXPECT_EQ(spread(servers, 20), (std::vector<size_t>{0, 0, 20}));
  for (Backend* server : servers)
    if (server->request_count() > 0) remove_endpoint(server->address());
  apply();
  EXPECT_EQ(spread(servers, 10), (std::vector<size_t>{0, 10, 20}));
}

}  // namespace
}  // namespace weir::proxy::testing
