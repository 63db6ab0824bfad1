#include "grpc/status.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace weir::grpc {
namespace {

TEST(StatusTest, NamesAndNumbersAreInverses) {
  for (int i = 0; i < kStatuses; ++i) {
    const auto status = static_cast<Status>(i);
    EXPECT_EQ(status_of_name(name(status)), status);
    EXPECT_EQ(parse_status(number(status)), status);
    EXPECT_EQ(number(status), std::to_string(i));
  }
  EXPECT_EQ(name(Status::unavailable), "UNAVAILABLE");
  EXPECT_EQ(name(Status::unauthenticated), "UNAUTHENTICATED");
  EXPECT_EQ(status_of_name("deadline_Exceeded"), Status::deadline_exceeded);
  EXPECT_EQ(status_of_name(""), std::nullopt);
  EXPECT_EQ(status_of_name("UNAVAILABLE "), std::nullopt);
  EXPECT_EQ(status_of_name("UNAVAIL"), std::nullopt);
}

TEST(StatusTest, ParsesGrpcStatusStrictly) {
  EXPECT_EQ(parse_status("17"), Status::unknown);
  EXPECT_EQ(parse_status("999999999"), Status::unknown);
  for (const char* bad : {"", "-1", "+1", "01", "00", "1 ", "0x1", "a", "9999999999"}) {
    EXPECT_EQ(parse_status(bad), std::nullopt) << bad;
  }
}

TEST(StatusTest, OfHttp) {
  const std::pair<int, Status> rows[] = {
      {400, Status::internal},      {401, Status::unauthenticated}, {403, Status::permission_denied},
      {404, Status::unimplemented}, {429, Status::unavailable},     {502, Status::unavailable},
      {503, Status::unavailable},   {504, Status::unavailable},     {200, Status::unknown},
      {431, Status::unknown},       {500, Status::unknown},         {0, Status::unknown},
  };
  for (const auto& [http, status] : rows) EXPECT_EQ(status_of_http(http), status) << http;
}

}  // namespace
}  // namespace weir::grpc
