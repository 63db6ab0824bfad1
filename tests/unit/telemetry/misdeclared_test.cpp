#include "telemetry/misdeclared.h"

#include <gtest/gtest.h>

#include "mesh.h"

namespace weir::telemetry {
namespace {

TEST(Misdeclared, WhatDoesNotFitIsCountedTogether) {
  Misdeclared counted(2);
  const Mesh mesh;
  for (const uint16_t port : {1, 2, 3, 4, 1, 3}) counted.count(mesh.service, port);
  std::map<ServicePortLabels, uint64_t> all;
  counted.collect(all);
  const std::map<ServicePortLabels, uint64_t> expected{
      {{"shop", "greeter", "1"}, 2}, {{"shop", "greeter", "2"}, 1}, {{"other", "other", "other"}, 3}};
  EXPECT_EQ(all, expected);
}

}  // namespace
}  // namespace weir::telemetry
