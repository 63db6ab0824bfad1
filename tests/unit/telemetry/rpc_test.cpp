#include "telemetry/rpc.h"

#include <gtest/gtest.h>

#include "mesh.h"

namespace weir::telemetry {
namespace {

TEST(Flags, AreNamedInOrder) {
  Flags flags;
  EXPECT_EQ(flags.to_string(), "-");
  flags.set(Flag::URX);
  flags.set(Flag::UF);
  EXPECT_EQ(flags.to_string(), "UF,URX");
  flags.set(Flag::DI);
  EXPECT_EQ(flags.to_string(), "UF,URX,DI");
}

TEST(Failed, MeansNoAnswerAnErrorOrAFlag) {
  const Mesh mesh;
  EXPECT_FALSE(failed(mesh.rpc()));
  EXPECT_TRUE(failed(mesh.failed_rpc()));

  Rpc rpc = mesh.rpc();
  rpc.grpc_status = 5;
  EXPECT_TRUE(failed(rpc));
  rpc.grpc_status = -1;  // gRPC without a status
  EXPECT_TRUE(failed(rpc));
  rpc.grpc = false;
  EXPECT_FALSE(failed(rpc));
  rpc.response_code = 404;
  EXPECT_TRUE(failed(rpc));
  rpc.response_code = 0;
  EXPECT_TRUE(failed(rpc));
}

}  // namespace
}  // namespace weir::telemetry
